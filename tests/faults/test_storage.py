"""Disks that fill up or close, damaged records, clocks that jump."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmark.study import records
from benchmark.study.folder import load_study
from protocols.errors import StoreError
from tests.running import ROOT, gone, queries, run, start, tables, truth, weights, workers_of

STORAGE = "Storage and clocks"
WORDS = ("--methods", "triplet")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own: 320 MB, of which a study needs 256 to start."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mirror(tmp_path):
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}


def fill(folder):
    """Write until the disk is full."""
    with (folder / "filler").open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()


def started(out, jobs, **kwargs):
    """Start a study and return it when ``jobs`` jobs are recorded."""
    process = start("run", "--protocol", "toy", *WORDS, out=out, **kwargs)
    while sum(1 for _ in (out / "records").rglob("*.fold-*.json")) < jobs:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    return process


def assert_one_line(printed, says):
    said = [line for line in printed.splitlines() if line.startswith("benchmark: ")]
    assert len(said) == 1, printed
    assert "Traceback" not in printed
    assert says in said[0]


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 7])
def test_a_disk_that_fills_up(ledger, whole, disk, tmp_path, jobs):
    outcome = "exit 2, one line; after room is made it goes on, same tables"
    with ledger.attempt(STORAGE, "disk full in the middle", outcome):
        out = disk / "study" / "out"
        out.parent.mkdir()
        process = started(out, jobs, environment=mirror(tmp_path))
        fill(disk)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 2, printed
        assert_one_line(printed, "No space left on device")
        assert gone(process.pid)
        (disk / "filler").unlink()
        run(*WORDS, out=out, environment=mirror(tmp_path))
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


@pytest.mark.faults
def test_a_disk_that_closes(ledger, whole, disk, tmp_path):
    outcome = "exit 2, one line; opened again it goes on, same tables"
    with ledger.attempt(STORAGE, "output turns read-only in the middle", outcome):
        out = disk / "study" / "out"
        out.parent.mkdir()
        process = started(out, 2, environment=mirror(tmp_path))
        close(out / "records")
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 2, printed
        assert_one_line(printed, "Read-only file system")
        assert gone(process.pid)
        reopen(out / "records")
        run(*WORDS, out=out, environment=mirror(tmp_path))
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


def close(folder):
    """Make a folder read-only for all, root included, while files around it are open."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def reopen(folder):
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_or_closed_disk_at_the_start(ledger, disk, tmp_path):
    with ledger.attempt(STORAGE, "disk full at the start", "exit 2, one line, nothing started"):
        out = disk / "study" / "out"
        out.parent.mkdir()
        fill(disk)
        printed = run(*WORDS, out=out, code=2, environment=mirror(tmp_path))
        assert_one_line(printed, "Make room")
        (disk / "filler").unlink()
    outcome = "exit 2, one line, nothing started"
    with ledger.attempt(STORAGE, "output read-only at the start", outcome):
        close(disk)
        printed = run(*WORDS, out=out, code=2, environment=mirror(tmp_path))
        assert_one_line(printed, "Read-only file system")
        reopen(disk)


def damage(content, rng):
    """Return a record's bytes cut short, or with one bit turned."""
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content))]
    place = rng.randrange(len(content))
    turned = bytes([content[place] ^ (1 << rng.randrange(8))])
    return content[:place] + turned + content[place + 1 :]


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.faults)])
def test_damaged_records(ledger, whole, tmp_path, rounds):
    """Some of a finished study's records are damaged at random; the study is run again."""
    rng, out = random.Random(rounds), tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    for _ in range(rounds):
        paths = sorted((out / "records").rglob("*.json"))
        victims = rng.sample(paths, 5)
        outcome = "found by checksum, kept aside, redone to the same bytes"
        with ledger.attempt(STORAGE, "record cut short or with a flipped bit", outcome, 5):
            damaged = {path: damage(path.read_bytes(), rng) for path in victims}
            for path, content in damaged.items():
                path.write_bytes(content)
            run(*WORDS, out=out)
            assert truth(out) == truth(whole)
            assert tables(out) == tables(whole)
            for path, content in damaged.items():
                assert path.with_name(f"{path.name}.damaged").read_bytes() == content


@pytest.mark.faults
def test_damaged_weights(ledger, whole, tmp_path):
    outcome = "found by checksum, kept aside, said in one line; `--keep` makes the same bytes again"
    fault = "weights of a finished run cut short or with a flipped bit"
    rng, out = random.Random(5), tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    kept = weights(out)
    for name in list(kept)[:2]:
        with ledger.attempt(STORAGE, fault, outcome):
            (out / name).write_bytes(damage(kept[name], rng))
            printed = run(*WORDS, "--keep", "best", out=out)
            assert printed.count("are not those of their record; kept aside") == 1
            assert weights(out) == kept
            assert (truth(out), tables(out)) == (truth(whole), tables(whole))
            assert (out / f"{name}.damaged").exists()


@pytest.mark.faults
def test_a_study_file_that_is_damaged(ledger, whole, tmp_path):
    outcome = "exit 2, one line says to delete that one file; then it goes on"
    with ledger.attempt(STORAGE, "study.json damaged", outcome):
        out = tmp_path / "study" / "out"
        shutil.copytree(whole, out)
        content = (out / "study.json").read_bytes()
        (out / "study.json").write_bytes(content[: len(content) // 2])
        assert_one_line(run(*WORDS, out=out, code=2), "Delete that one file")
        (out / "study.json").unlink()
        assert "nothing left to do" in run(*WORDS, out=out)
        assert truth(out) == truth(whole)


def cell_of(out, method):
    (cell,) = (out / "records" / "toy" / "tiny" / "adam").glob(f"{method}-*")
    return cell


def moved(out):
    """Put whole records into the places of others; return which places these are."""
    ours, other = cell_of(out, "triplet"), cell_of(out, "untrained")
    taken = {
        ours / "seed-0.json": ours / "seed-1.json",
        ours / "seed-1.fold-0.json": ours / "seed-1.fold-1.json",
        ours / "trial-001.json": ours / "trial-000.json",
        ours / "choice.json": other / "choice.json",
        other / "seed-1.json": ours / "seed-1.json",
        other / "cell.json": ours / "cell.json",
    }
    contents = {place: source.read_bytes() for place, source in taken.items()}
    for place, content in contents.items():
        place.write_bytes(content)
    return list(taken)


def lost(out):
    """Delete records that others were made from."""
    ours = cell_of(out, "triplet")
    places = [ours / name for name in ("trial-000.json", "trial-001.fold-1.json")]
    places += [ours / "seed-0.fold-1.json"]
    for place in places:
        place.unlink()
    return places


def unlike(out):
    """Change per-query files: cut, one bit turned, another seed's, gone."""
    first, second, third, fourth = sorted((out / "queries").rglob("*.npz"))
    first.write_bytes(first.read_bytes()[:-7])
    content = second.read_bytes()
    second.write_bytes(content[:99] + bytes([content[99] ^ 4]) + content[100:])
    third.write_bytes(fourth.read_bytes())
    fourth.unlink()
    return [first, second, third, fourth]


def undone(out):
    """Damage what is prepared, and delete a run so that there is work that would use it."""
    for path in cell_of(out, "triplet").glob("seed-1*.json"):
        path.unlink()
    pixels, labels = next((out / "cache").glob("*.u8")), next((out / "cache").glob("*.classes.npz"))
    content = pixels.read_bytes()
    pixels.write_bytes(content[:500] + bytes([content[500] ^ 8]) + content[501:])
    with np.load(labels) as file:
        arrays = dict(file)
    np.savez_compressed(labels, **{**arrays, "labels": arrays["labels"][::-1]})
    return [pixels, labels]


PLANTED = {
    "record in another record's place": (moved, "not believed"),
    "trial or fold record gone under a finished choice or run": (lost, "(gone)"),
    "per-query file cut, flipped, another seed's, gone": (unlike, "per-query results are not"),
    "prepared pixels or labels not those written": (
        undone,
        "is damaged or has no checksum: made anew",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", PLANTED)
def test_what_does_not_prove_its_place_is_redone(ledger, whole, tmp_path, fault):
    plant, says = PLANTED[fault]
    out = tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    places = plant(out)
    outcome = "said in one line and redone to the same bytes, same tables"
    with ledger.attempt(STORAGE, fault, outcome, len(places)):
        printed = run(*WORDS, out=out)
        assert says in printed
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)
        assert queries(out) == queries(whole)
        assert "nothing left to do" in run(*WORDS, out=out)


@pytest.mark.faults
def test_a_command_that_reads_says_what_it_does_not_believe(ledger, whole, tmp_path):
    out = tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    moved(out)
    before = truth(out)
    outcome = "`tables` and `report` show it as missing, say so in one line and change no record"
    for word in ("tables", "report"):
        with ledger.attempt(STORAGE, "record in another's place, only read", outcome):
            process = start(word, out=out)
            printed, _ = process.communicate(timeout=60)
            assert process.returncode == 0, printed
            (said,) = [line for line in printed.splitlines() if "shown as missing" in line]
            assert "seed-0.json (holds another record, seed-1.json)" in said
            assert truth(out) == before


@pytest.mark.faults
def test_bits_that_flip_in_the_study_file(ledger, whole, tmp_path):
    outcome = "exit 2, one line says to delete that one file; none loads as another study"
    known, content = load_study(whole), (whole / "study.json").read_bytes()
    shutil.copytree(whole / "records", tmp_path / "records")
    rng = random.Random(11)
    with ledger.attempt(STORAGE, "study.json with a flipped bit or a renamed row", outcome, 201):
        for _ in range(200):
            place = rng.randrange(len(content))
            turned = bytes([content[place] ^ 1 << rng.randrange(8)])
            (tmp_path / "study.json").write_bytes(content[:place] + turned + content[place + 1 :])
            with contextlib.suppress(StoreError):
                assert replace(load_study(tmp_path), out=whole) == known, place
        renamed = content.replace(b'"row": "triplet"', b'"row": "triplets"')
        assert renamed != content
        (tmp_path / "study.json").write_bytes(renamed)
        with pytest.raises(StoreError, match="Delete that one file"):
            load_study(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("name", [".lock", "log.txt", "workers.txt", "tables/runs.csv"])
def test_something_else_in_the_place_of_a_file(ledger, whole, tmp_path, name):
    out = tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    path = out / name
    path.unlink()
    make = {"a folder": path.mkdir, "a pipe": lambda: os.mkfifo(path)}
    make["a link to nothing"] = lambda: path.symlink_to(tmp_path / "nowhere")
    for kind, plant in make.items():
        with ledger.attempt(STORAGE, f"{kind} in a file's place", "exit 2, one line, no wait"):
            plant()
            assert_one_line(run(*WORDS, out=out, code=2), f"{path.name} is {kind}")
        path.rmdir() if kind == "a folder" else path.unlink()


@pytest.mark.faults
def test_a_folder_a_pipe_or_a_link_in_the_place_of_a_record(ledger, whole, tmp_path):
    out = tmp_path / "study" / "out"
    shutil.copytree(whole, out)
    ours = cell_of(out, "triplet")
    names = ("seed-0.json", "seed-1.json", "trial-001.json")
    for name in names:
        (ours / name).unlink()
    (ours / names[0]).mkdir()
    os.mkfifo(ours / names[1])
    (ours / names[2]).symlink_to(tmp_path / "nowhere")
    outcome = "kept aside and redone to the same bytes, no wait"
    with ledger.attempt(STORAGE, "folder, pipe, dangling link in a record's place", outcome, 3):
        printed = run(*WORDS, out=out)
        assert "Traceback" not in printed
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


CLOCK = '''"""A wall clock that jumps by up to a year, back and forth, at every call."""
import random, time
_now, _now_ns, _rng = time.time, time.time_ns, random.Random(3)
time.time = lambda: _now() + _rng.uniform(-3e7, 3e7)
time.time_ns = lambda: _now_ns() + int(_rng.uniform(-3e16, 3e16))
'''


@pytest.mark.faults
def test_a_clock_that_jumps(ledger, whole, tmp_path):
    outcome = "only the monotonic clock steers: same tables"
    with ledger.attempt(STORAGE, "wall clock jumps by up to a year at every look", outcome):
        out, folder = tmp_path / "study" / "out", tmp_path / "clock"
        for path in (out.parent, folder):
            path.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK)
        environment = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
        run(*WORDS, out=out, environment=environment)
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


@pytest.mark.faults
def test_a_stopped_process_is_no_hang(ledger, whole, tmp_path):
    """A laptop that sleeps: everything stands still, then goes on."""
    with ledger.attempt(STORAGE, "all processes stopped for 3 s and woken", "it goes on"):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        process = started(out, 1)
        pids = workers_of(process.pid)
        for which in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, which)
            time.sleep(3 if which == signal.SIGSTOP else 0)
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert truth(out) == truth(whole)


def test_a_record_of_another_program_is_not_taken_for_ours(tmp_path):
    path = tmp_path / "seed-0.json"
    path.write_text(json.dumps({"kind": "run", "sha256": "0" * 64, "schema": 1}))
    with pytest.raises(records.DamagedRecordError):
        records.load(path)
