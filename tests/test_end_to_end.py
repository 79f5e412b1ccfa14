"""The main job on made images, as a user starts it: whole, killed, resumed, extended."""

import json
import os
import random
import re
import shlex
import signal

import pandas as pd
import pytest

from benchmark.cli import make_parser
from protocols.metrics import METRICS
from tests.running import METHODS, gone, queries, run, start, tables, truth, weights, workers_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed study, and what it printed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, run("--methods", METHODS, out=out)


def test_the_study_is_complete(whole):
    out, printed = whole
    summary = pd.read_csv(out / "tables" / "summary.csv")
    assert set(summary["method"]) == {"triplet", "ms", "group", "untrained"}
    assert set(summary["embedding"]) == {"separated", "concatenated"}
    assert (summary["n"] == 2).all()
    assert (summary["failed_runs"] == 0).all()
    trained = summary[summary["method"] != "untrained"]
    assert set(trained["trials"]) == {2}, "every method gets the same number of trials"
    assert summary["ci_low"].isna().all(), "no interval below n = 3"
    assert "triplet (baseline)" in printed
    assert (out / "report" / "index.html").stat().st_size > 10_000
    assert not list((out / "vectors").rglob("*.npz")), "vectors go once a run is joined"


def test_learning_beats_the_untrained_trunk(whole):
    summary = pd.read_csv(whole[0] / "tables" / "summary.csv")
    score = summary[summary["metric"] == "map_at_r"].set_index(["method", "embedding"])["mean"]
    for method in METHODS.split(","):
        assert score[method, "concatenated"] > score["untrained", "concatenated"] + 0.1


def test_the_choice_came_before_the_test_set(whole):
    found = {path: json.loads(path.read_text()) for path in (whole[0] / "records").rglob("*.json")}
    assert {"job", "run"} <= {body["kind"] for body in found.values()}
    for path, body in found.items():
        if body["kind"] == "job" and body["stage"] == "search":
            assert body["test"] is None
            assert body["openings"] == []
        if body["kind"] == "run":
            assert len(body["openings"]) == 3, "two folds and their join"
            choice = json.loads((path.parent / "choice.json").read_text())
            assert body["settings"] == choice["settings"]


def test_a_second_time_does_nothing_and_quickly(whole):
    out, _ = whole
    before = {p: p.stat().st_mtime_ns for p in (out / "records").rglob("*.json")}
    printed = run("--methods", METHODS, out=out)
    assert "nothing left to do" in printed
    assert {p: p.stat().st_mtime_ns for p in (out / "records").rglob("*.json")} == before


def test_one_worker_and_another_order_give_the_same_bits(whole, tmp_path):
    out = tmp_path / "out"
    run("--methods", "group,triplet,ms", "--jobs", "1", out=out)
    assert truth(out) == truth(whole[0])
    assert queries(out) == queries(whole[0])
    assert tables(out) == tables(whole[0])


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_tables(whole, tmp_path):
    out, rng = tmp_path / "out", random.Random(4)
    for kill in range(4):
        process = start("run", "--protocol", "toy", "--methods", METHODS, out=out)
        lines = rng.randint(3, 12)
        for line in process.stdout:
            lines -= bool(re.search(r"\[\d+/\d+ jobs", line))
            if not lines:
                break
        if kill % 2:  # a worker: the run itself must survive that
            children = [pid for pid in workers_of(process.pid) if pid != process.pid]
            for pid in children[-1:]:
                os.kill(pid, signal.SIGKILL)
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert gone(process.pid), "workers outlive a killed coordinator"
    run("--methods", METHODS, out=out)
    assert truth(out) == truth(whole[0])
    assert tables(out) == tables(whole[0])
    assert weights(out) == weights(whole[0]), "of the best seed of each cell, and no other"


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_130_no_process_and_goes_on(which, whole, tmp_path):
    out = tmp_path / "out"
    process = start("run", "--protocol", "toy", "--methods", METHODS, out=out)
    for line in process.stdout:
        if "[5/" in line:
            break
    os.killpg(process.pid, which) if which == signal.SIGINT else process.send_signal(which)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "run the same command again" in rest
    assert "Traceback" not in rest
    assert gone(process.pid)
    run("--methods", METHODS, out=out)
    assert tables(out) == tables(whole[0])


def test_more_seeds_and_methods_add_only_what_is_missing(tmp_path):
    out = tmp_path / "out"
    run("--methods", "ms", "--seeds", "1", out=out)
    first = truth(out)
    printed = run("--methods", "ms,contrastive", "--seeds", "3", out=out)
    later = truth(out)
    assert {k: later[k] for k in first} == first
    done = re.findall(r"(\w+)/toy (trial|seed) (\d) fold", printed)
    assert ("ms", "trial", "0") not in done
    assert ("ms", "seed", "0") not in done
    assert ("ms", "seed", "2") in done
    assert ("contrastive", "trial", "0") in done
    # One seed was planned and gave no verdict; the first that was seen is of three.
    assert json.loads((out / "looks.json").read_text()) == {"planned": 1, "seen": [3]}
    summary = pd.read_csv(out / "tables" / "summary.csv")
    assert (summary["n"] == 3).all()
    assert summary["ci_low"].notna().all()
    # A seed more of one method: the other's runs stay, and the next command completes it.
    printed = run("--methods", "ms", "--seeds", "4", out=out)
    assert {k: truth(out)[k] for k in later} == later
    done = re.findall(r"(\w+)/toy (trial|seed) (\d) fold", printed)
    assert set(done) == {("ms", "seed", "3"), ("untrained", "seed", "3")}
    (counted,) = [line for line in printed.splitlines() if line.startswith("contrastive")]
    assert counted.split()[-2:] == ["3/4", "2"]
    (proposed,) = re.findall(r"^next     python -m benchmark run (.*)$", printed, re.M)
    asked = make_parser().parse_args(["run", *shlex.split(proposed)])
    assert (asked.methods, asked.seeds, asked.out) == (("contrastive",), 4, out)


def test_another_search_adds_jobs_and_leaves_the_first_as_it_was(tmp_path):
    out = tmp_path / "out"
    run("--methods", "ms", out=out)
    first, before = truth(out), tables(out)
    printed = run("--methods", "ms", "--search-repeats", "2", out=out)
    later = truth(out)
    assert {k: later[k] for k in first} == first
    assert tables(out) == before
    assert "[8/8 jobs" in printed  # 2 trials and 2 seeds on 2 folds: no job of the first
    searches = pd.read_csv(out / "tables" / "searches.csv")
    assert searches[["method", "search", "seed", "status"]].values.tolist() == [
        ["ms", search, seed, "done"] for search in (0, 1) for seed in (0, 1)
    ]
    assert searches["concatenated_map_at_r"].nunique() == 4, "seeds of its own"
    assert set(pd.read_csv(out / "tables" / "variance.csv")["searches"]) == {2}
    again = run("--methods", "ms", "--search-repeats", "2", out=out)
    assert "nothing left to do" in again


def test_damaged_records_are_redone_and_kept_aside(whole, tmp_path):
    out = tmp_path / "out"
    run("--methods", "ms", out=out)
    before, (cell,) = truth(out), (out / "records/toy/tiny/adam").glob("ms-*")
    (cell / "seed-1.json").write_bytes((cell / "seed-1.json").read_bytes()[:100])
    kept = weights(out)
    assert [name for name in weights(whole[0]) if "/ms-" in name] == [
        n for n in kept if "/ms-" in n
    ]
    path = out / next(name for name in kept if "/ms-" in name)
    path.write_bytes(b"not weights")
    printed = run("--methods", "ms", "--keep", "best", out=out)
    assert f"weights {path.name} are not those of their record; kept aside" in printed
    assert "made again and kept" in printed
    assert weights(out) == kept
    assert truth(out) == before
    assert (cell / "seed-1.json.damaged").stat().st_size == 100


def test_another_protocol_is_refused_and_nothing_is_touched(whole):
    out = whole[0]
    before = truth(out)
    output = run("--methods", "ms", "--trials", "3", out=out, code=2)
    assert "other rules" in output
    assert "--out" in output
    assert truth(out) == before


PLUGIN = '''"""mine: {text}"""
import torch
from protocols.method import Method, Term
from protocols.space import Real

class Mine(Method):
    """A test method."""
    scale = Real(0.1, 10.0, default=1.0)
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        {body}
'''


def plugin(folder, body, text="a test"):
    path = folder / "mine.py"
    path.write_text(PLUGIN.format(body=body, text=text))
    return path


def test_a_method_that_fails_is_a_row_with_its_reason(tmp_path):
    path = plugin(tmp_path, "return (embeddings * float('nan')).sum() * self.scale")
    output = run("--methods", "mine,ms", "--plugin", str(path), out=tmp_path / "out", code=3)
    summary = pd.read_csv(tmp_path / "out" / "tables" / "summary.csv")
    mine = summary[summary["method"] == "mine"]
    assert (mine["n"] == 0).all()
    assert (mine["failed_runs"] == 2).all()
    assert (summary[summary["method"] == "ms"]["n"] == 2).all(), "others are not touched by it"
    assert "non_finite" in output


def test_a_method_that_ends_its_process_is_a_crash(tmp_path):
    path = plugin(tmp_path, "__import__('os')._exit(7)")
    run("--methods", "mine", "--plugin", str(path), out=tmp_path / "out", code=3)
    runs = pd.read_csv(tmp_path / "out" / "tables" / "runs.csv")
    assert set(runs[runs["method"] == "mine"]["reason"]) == {"crash"}


def test_an_edited_plugin_is_another_cell(tmp_path):
    body = "return (embeddings.std(0).sum() * self.scale).square()"
    path, out = plugin(tmp_path, body), tmp_path / "out"
    run("--methods", "mine", "--plugin", str(path), out=out)
    plugin(tmp_path, body, text="other words")
    assert "nothing left" in run("--methods", "mine", "--plugin", str(path), out=out)
    plugin(tmp_path, body.replace("square", "abs"))
    printed = run("--methods", "mine", "--plugin", str(path), out=out)
    assert "earlier code" in printed
    assert len(list((out / "records/toy/tiny/adam").glob("mine-*"))) == 2
    summary = pd.read_csv(out / "tables" / "summary.csv")
    mine = summary[summary["method"] == "mine"]
    assert not mine.duplicated(["embedding", "metric"]).any(), "one set of rows, of this code"
    assert set(mine["metric"]) > set(METRICS)


DIVIDED = '''"""divided: Divide and Conquer, and a power cut between two of its clusterings."""
import os, signal
from pathlib import Path
from protocols.methods.divide_conquer import DivideConquer

class Divided(DivideConquer):
    """Kills the coordinator and itself once, in the second epoch of a phase."""
    def plan(self, epoch, probe, rng):
        mark = Path({mark!r})
        if epoch == 1 and not mark.exists():
            assert self.clusters.min() >= 0
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(1)
        return super().plan(epoch, probe, rng)
'''


def test_killed_within_a_phase_of_divide_and_conquer_it_goes_on_to_the_same_records(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "divided.py"
    path.write_text(DIVIDED.format(mark=str(mark)))
    words = ("--methods", "divided", "--plugin", str(path), "--seeds", "1")
    killed, straight = tmp_path / "killed" / "out", tmp_path / "straight" / "out"
    for out in (killed, straight):
        out.parent.mkdir()
    process = start("run", "--protocol", "toy", *words, out=killed)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert mark.exists()
    assert gone(process.pid)
    assert not list(killed.rglob("seed-0.json")), "it was cut off before the end"
    run(*words, out=killed)
    run(*words, out=straight)
    assert truth(killed) == truth(straight)
    assert tables(killed) == tables(straight)
