"""What a container or batch job allows, read from made trees of both versions of cgroups."""

import os

import pytest

from benchmark.engines import limits, machine
from protocols.discovery import load
from protocols.errors import InvalidInputError

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
)
OWN1 = "4:memory:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:/x\n0::/\n"
GB = 1 << 30


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return what makes a tree of files; the machine has 64 cores and 256 GB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.get)

    def make(own, mounts, **files):
        for name, text in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_no_group_leaves_the_machine(tree):
    root = tree("0::/\n", V2.format(top="/"))
    assert (limits.cpus(root), limits.memory_bytes(root)) == (64, 256 * GB)


def test_version_2_takes_the_tightest_on_the_path(tree):
    base = "sys/fs/cgroup/"
    root = tree(
        "0::/batch/job/step\n",
        V2.format(top="/"),
        **{
            base + "batch/cpu.max": "800000 100000\n",
            base + "batch/memory.max": "max\n",
            base + "batch/job/cpu.max": "250000 100000\n",
            base + "batch/job/memory.max": f"{3 * GB}\n",
            base + "batch/job/step/cpu.max": "max 100000\n",
            base + "batch/job/step/memory.max": f"{4 * GB}\n",
            base + "other/cpu.max": "1000 100000\n",
        },
    )
    assert (limits.cpus(root), limits.memory_bytes(root)) == (2.5, 3 * GB)


def test_version_1_in_a_container_that_sees_its_group_as_the_top(tree):
    base = "sys/fs/cgroup/"
    root = tree(
        OWN1.format(path="/docker/abc/inner"),
        V1.format(top="/docker/abc"),
        **{
            base + "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            base + "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            base + "memory/memory.limit_in_bytes": f"{8 * GB}\n",
            base + "memory/inner/memory.limit_in_bytes": f"{2 * GB}\n",
        },
    )
    assert (limits.cpus(root), limits.memory_bytes(root)) == (0.5, 2 * GB)


def test_version_1_without_limits(tree):
    base = "sys/fs/cgroup/"
    root = tree(
        OWN1.format(path="/"),
        V1.format(top="/"),
        **{
            base + "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            base + "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            base + "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert (limits.cpus(root), limits.memory_bytes(root)) == (64, 256 * GB)


def test_a_group_outside_what_is_mounted_is_read_at_the_mount(tree):
    root = tree("0::/../elsewhere\n", V2.format(top="/"), **{"sys/fs/cgroup/cpu.max": "1000 1000"})
    assert limits.cpus(root) == 1


def test_where_nothing_is_told_nothing_is_guessed(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert (limits.cpus(tmp_path), limits.memory_bytes(tmp_path)) == (1, None)
    limits.check_room(1000, tmp_path)


@pytest.mark.parametrize(
    ("cpus", "memory", "workers"),
    [("50000", 8 * GB, 1), ("250000", 8 * GB, 2), ("max", 1600 * 10**6, 1), ("max", None, 64)],
)
def test_workers_follow_both(tree, monkeypatch, cpus, memory, workers):
    group = {"sys/fs/cgroup/cpu.max": f"{cpus} 100000", "sys/fs/cgroup/memory.max": f"{memory}"}
    monkeypatch.setattr(limits, "ROOT", tree("0::/\n", V2.format(top="/"), **group))
    assert machine.default_workers((), load("protocol", "toy")) == workers


def test_too_little_memory_is_one_line_with_what_fits(tree):
    group = {"sys/fs/cgroup/memory.max": f"{2 * GB}"}
    root = tree("0::/\n", V2.format(top="/"), **group)
    limits.check_room(2, root)
    with pytest.raises(InvalidInputError, match=r"allows 2,048 MB\. Run with --jobs 2"):
        limits.check_room(3, root)
    (root / "sys/fs/cgroup/memory.max").write_text(str(GB))
    with pytest.raises(InvalidInputError, match="Lift the limit"):
        limits.check_room(1, root)
