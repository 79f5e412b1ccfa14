"""A real Ray cluster of two nodes on this machine, as if they were far apart."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from benchmark.cli import main
from tests.faults import test_preemption as slow
from tests.running import queries, run, start, tables, truth

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[default]'")

from ray.cluster_utils import Cluster  # noqa: E402

from benchmark.engines import parcels, ray_cluster  # noqa: E402
from protocols.errors import StoreError  # noqa: E402

PLUGIN = '''"""far: a method in a file that only the coordinator has."""
from torch.nn.functional import normalize
from protocols.method import Method, Term
from protocols.space import Real

class Far(Method):
    """A test method."""
    scale = Real(0.1, 10.0, default=1.0)
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        z = normalize(embeddings)
        same = labels[:, None] == labels
        return ((z @ z.T - same.float()) * self.scale).square().mean()
'''
SUITE = "A Ray cluster"
WORDS = ("--methods", "ms,far", "--plugin", "far.py", "--seeds", "3")
# A start of Python after which a process dies with torch loaded while a file says so, as with a
# driver that has broken.
POISON = """import os, signal, sys, threading, time

def wait():
    while not (os.path.exists("{mark}") and "torch" in sys.modules):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

if "default_worker.py" in " ".join(sys.orig_argv):
    threading.Thread(target=wait, daemon=True).start()
"""


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Two nodes with one CPU each, which start in a folder without this code."""
    starting = tmp_path / "starting"
    starting.mkdir()
    (starting / "sitecustomize.py").write_text(POISON.format(mark=tmp_path / "poison"))
    monkeypatch.setenv("PYTHONPATH", str(starting))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    with tempfile.TemporaryDirectory() as folder:  # pytest's are too deep for Ray's sockets
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.chdir(folder)
        found = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        found.folder, found.second = Path(folder), found.add_node(num_cpus=1)
        yield found
        found.shutdown()
        monkeypatch.undo()


def can_hide():
    """Return whether a folder can be mounted that no other process sees."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_lost_machine_and_no_shared_folder_give_the_bits_of_one_machine(
    ledger, tmp_path, cluster
):
    outcome = "tried again on another; records, per-query files, tables as on one machine"
    with ledger.attempt(SUITE, "a machine is lost, no folder shared", outcome):
        here, far = tmp_path / "here" / "out", tmp_path / "far" / "hidden" / "out"
        here.parent.mkdir()
        (here.parent / "far.py").write_text(PLUGIN)
        run(*WORDS, out=here)
        visible = far.parent.parent
        far.parent.mkdir(parents=True)
        shutil.copy(here.parent / "far.py", visible)
        # The coordinator works in a folder that no worker can see, and shows it at its end.
        hidden = far.parent
        hide = f"mount -t tmpfs tmpfs {hidden} && cp {visible}/far.py {hidden} && cd {hidden}"
        show = f"cp -r {far} {visible}"
        script = ("sh", "-c", f'{hide} && "$@"; code=$?; {show}; exit $code', "sh")
        before = ("unshare", "-m", *script) if can_hide() else ()
        environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
        words = (
            "run",
            "--protocol",
            "toy",
            *WORDS,
            "--engine",
            "ray",
            "--address",
            cluster.address,
        )
        process = start(*words, out=far, before=before, environment=environment)
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "[3/" in line:
                cluster.remove_node(cluster.second, allow_graceful=False)
                break
        rest, _ = process.communicate(timeout=240)
        assert process.returncode == 0, "".join(printed) + rest
        found = visible / "out" if before else far
        assert truth(found) == truth(here)
        assert queries(found) == queries(here)
        assert tables(found) == tables(here)
        copies = [p.name for p in cluster.folder.glob("dml-benchmark-*/*/*")]
        assert "far.py" in copies, "the plugin was brought to the workers"
        assert sum(name.endswith(".u8") for name in copies) == 1, "one copy of the images a machine"


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_jobs_fail_hang_and_die_as_they_do_here(ledger, tmp_path, cluster):
    outcome = "typed errors, a line in workers.txt; a lost machine counts no more"
    with ledger.attempt(SUITE, "jobs that fail, hang or end their process", outcome):
        ray_cluster.connect(cluster.address, threads=1)
        engine = ray_cluster.RayEngine(None, 1, 0.0, tmp_path / "workers.txt", deterministic=False)
        try:
            assert engine.capacity == 2
            assert engine.submit(abs, -3).result(timeout=60) == 3
            with pytest.raises(RuntimeError, match="TypeError: bad operand"):
                engine.submit(abs, "text").result(timeout=60)
            with pytest.raises(ray_cluster.WorkerLostError):
                engine.submit(os._exit, 7).result(timeout=60)
            hanging = engine.submit(signal.sigwait, {signal.SIGUSR1})
            with pytest.raises(TimeoutError):
                hanging.result(timeout=3)
            engine.cancel(hanging)
            with pytest.raises(ray_cluster.WorkerLostError):
                hanging.result(timeout=60)
            assert "worker lost" in (tmp_path / "workers.txt").read_text()
            cluster.remove_node(cluster.second, allow_graceful=False)
            cluster.wait_for_nodes()
            limit = time.monotonic() + 20  # the head is asked once a second
            while engine.capacity == 2 and time.monotonic() < limit:
                time.sleep(0.1)
            assert engine.capacity == 1
        finally:
            engine.close()


class Foreign(str):
    """An argument that brings code of its own."""

    @property
    def foreign(self):
        return (str(self),)


def process(what):
    """Return this process, changed or not, and torch's default type as it was met."""
    import torch

    met = str(torch.get_default_dtype())
    if what == "meddle":
        torch.set_default_dtype(torch.float64)
    return os.getpid(), met


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_no_job_sees_what_another_changed(ledger, tmp_path, cluster):
    outcome = "that process runs nothing more; own code has a process a job"
    with ledger.attempt(SUITE, "a job changes its process", outcome):
        cluster.remove_node(cluster.second, allow_graceful=False)
        cluster.wait_for_nodes()
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray_cluster.connect(cluster.address, threads=1)
        engine = ray_cluster.RayEngine(None, 1, 0.0, tmp_path / "workers.txt", deterministic=False)
        try:
            found = [
                engine.submit(process, what).result(timeout=100)
                for what in ("", "", "meddle", "", Foreign("meddle"), Foreign("meddle"), "", "")
            ]
            assert [kind for _, kind in found] == ["torch.float32"] * len(found)
            pids = [number for number, _ in found]
            assert pids[0] == pids[1] == pids[2], "what ships shares a process"
            assert len({pids[2], pids[3]}) == 2, "one that was changed is not used again"
            assert pids[4] != pids[5], "what does not ship has a process a job"
            assert not {pids[4], pids[5]} & {pids[6], pids[7]}
        finally:
            engine.close()
            ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def launch(out, cluster, *words):
    """Start a study on a cluster whose workers see the output folder."""
    where = ("--engine", "ray", "--address", cluster.address)
    return start("run", "--protocol", "toy", *words, *where, out=out)


def at_work():
    """Return the processes of Ray that are at a job."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and b"ray::_here" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_training_goes_on_from_its_checkpoint(ledger, tmp_path, cluster):
    """A worker dies within a training, in a folder that all workers see."""
    outcome = "tried again in the same run, from its checkpoint; records and tables byte-identical"
    with ledger.attempt(SUITE, "SIGKILL of a worker within a training", outcome):
        whole, out = slow.place(tmp_path / "whole"), slow.place(tmp_path / "broken")
        run(*slow.WORDS, out=whole)
        process = launch(out, cluster, *slow.WORDS)
        slow.wait_until_begun(process, out)
        for pid in at_work():
            os.kill(pid, signal.SIGKILL)
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert "trying again" in printed
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)
        assert slow.resumed(out)
        assert not slow.begun(out)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_cluster_whose_workers_die_is_at_fault_and_not_the_method(ledger, tmp_path, cluster):
    outcome = "a known-good job dies too: exit 5, one line, nothing recorded; run again, it goes on"
    with ledger.attempt(SUITE, "workers die from the middle of a study on", outcome):
        words = ("--methods", "triplet")
        whole, out = tmp_path / "whole" / "out", tmp_path / "broken" / "out"
        for place in (whole, out):
            place.parent.mkdir()
        run(*words, out=whole)
        process = launch(out, cluster, *words)
        while not list(out.rglob("trial-000.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        (tmp_path / "poison").touch()
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 5, printed
        last = printed.strip().splitlines()[-1]
        assert "a known-good job after it failed too" in last, printed
        assert "Traceback" not in printed
        jobs = [json.loads(path.read_text()) for path in out.rglob("*.fold-*.json")]
        assert {job["status"] for job in jobs} == {"done"}
        (tmp_path / "poison").unlink()
        process = launch(out, cluster, *words)
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


def with_workers_of_its_own(most, folder):
    """Return how many workers answer that a job of Ray's has started beside it."""
    from benchmark.engines.local import LocalEngine

    log = Path(folder) / f"{most} workers.txt"
    engine = LocalEngine(most, 1, log, devices=(os.environ["CUDA_VISIBLE_DEVICES"],))
    try:
        return sum(each.result(200) for each in [engine.submit(abs, -1) for _ in range(most)])
    finally:
        engine.close()


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_how_many_share_a_gpu_is_asked_on_every_kind_of_machine(tmp_path, cluster):
    """The machines say that they have GPUs; nothing here computes on one."""
    for cpus, gpus in ((4, 2), (4, 2), (3, 1), (0, 1), (1, 1)):
        cluster.add_node(num_cpus=cpus, num_gpus=gpus)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray_cluster.connect(cluster.address, threads=1)
    engine = ray_cluster.RayEngine(None, 1, 1.0, tmp_path / "workers.txt", deterministic=False)
    try:
        assert engine.capacity == 6
        assert engine.share_cards(with_workers_of_its_own, str(tmp_path)) == 2
        asked = sorted(path.name for path in tmp_path.glob("* workers.txt"))
        assert asked == ["2 workers.txt", "3 workers.txt"], "once for each kind with room for more"
        assert engine.capacity == 4 + 4 + 2 + 1
    finally:
        engine.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize(
    ("resources", "threads", "gpus", "jobs"),
    [
        ({"CPU": 8}, 1, 0, 8),
        ({"CPU": 7}, 2, 0, 3),
        ({"CPU": 8}, 1, 1, 0),
        ({"CPU": 64, "GPU": 8}, 1, 1, 8),
        ({"CPU": 64, "GPU": 8}, 1, 0.5, 16),
        ({"CPU": 64, "GPU": 2}, 1, 0.3, 6),
        ({"CPU": 64, "GPU": 1}, 1, 0.1, 10),
        ({"CPU": 64, "GPU": 8}, 1, 2, 4),
        ({"CPU": 4, "GPU": 8}, 1, 0.5, 4),
    ],
)
def test_a_machine_takes_what_fits(resources, threads, gpus, jobs):
    assert ray_cluster._fit(resources, threads, gpus) == jobs


def test_a_damaged_parcel_is_refused(tmp_path):
    parcel = parcels.Parcel(Path("weights.pth"), "0" * 64, (b"one", b"two"))
    with pytest.raises(StoreError, match="not what was sent"):
        parcels.write(parcel, tmp_path / "weights.pth", lambda piece: piece)
    assert list(tmp_path.iterdir()) == []


def test_no_cluster_is_one_clear_line(tmp_path, capsys):
    words = ["run", "--protocol", "toy", "--methods", "ms", "--engine", "ray"]
    script = "from benchmark.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--address", "127.0.0.1:1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_DISABLE_IMPORT_WARNING": "1"},
        cwd=Path(__file__).parents[3],
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "ray start --head" in done.stderr
    assert main([*words, "--gpus-per-job", "1.5", "--out", str(tmp_path)]) == 2
    assert "share of a GPU" in capsys.readouterr().err


def test_a_head_that_dies_is_said_before_ray_ends_the_process(tmp_path, monkeypatch):
    node = {"Alive": True, "Resources": {"CPU": 3.0}}
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: [node])
    engine = ray_cluster.RayEngine(None, 1, 0.0, tmp_path / "log", deterministic=True)
    assert engine.capacity == 3
    engine._closed.set()
    monkeypatch.setattr(ray_cluster, "_SILENT_S", -1.0)
    with pytest.raises(ray_cluster.MachineError, match="start the cluster again"):
        engine.capacity  # noqa: B018
    engine.close()


@pytest.mark.parametrize(("limit", "asked"), [(None, [8, 4]), (3, [3, 3]), (1, [])])
def test_jobs_run_alone_on_a_gpu_where_it_cannot_be_measured_how_many_pay(
    tmp_path, monkeypatch, limit, asked
):
    kinds = ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 0.0, "GPU": 1.0})
    nodes = [{"Alive": True, "Resources": kind, "NodeID": "ab" * 28} for kind in kinds]
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: nodes)
    engine = ray_cluster.RayEngine(limit, 1, 1.0, tmp_path / "log", deterministic=True)
    engine._closed.set()
    futures = [Future(), Future()]
    futures[0].set_result(4)
    futures[1].set_exception(ray_cluster.WorkerLostError("gone"))
    given = iter(futures)
    seen = []

    def submit(function, argument, gpus, where):
        assert (argument, gpus, where.soft) == (7, 1.0, False)
        seen.extend(function.args)
        return next(given)

    monkeypatch.setattr(engine, "_submit", submit)
    assert engine.share_cards(max, 7) == 1
    assert seen == asked
    assert not asked or "is not known: gone" in (tmp_path / "log").read_text()


def test_a_job_that_fits_nowhere_is_said(monkeypatch):
    nodes = [
        {"Alive": alive, "Resources": {"CPU": cpus}} for alive, cpus in ((True, 2), (False, 8))
    ]
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: nodes)
    assert ray_cluster.shortage(2, 0.0) == ""
    assert "has 4 CPU(s), which a job needs" in ray_cluster.shortage(4, 0.0)
    assert "has 1 CPU(s) and 0.5 GPU(s)" in ray_cluster.shortage(1, 0.5)
