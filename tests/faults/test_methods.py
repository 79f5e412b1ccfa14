"""Methods that do everything wrong, all in one study with one that does not."""

import json

import pandas as pd
import pytest

from tests.benchmark.mirror.test_tracking import free_port, server
from tests.running import ROOT, gone, queries, run, start, tables, truth

METHODS = "Methods"
HASTY = '''"""toy with one trial, one seed and little patience with a job that hangs."""
from dataclasses import replace
from protocols.specs.toy import PROTOCOL
from protocols.protocol import SearchRule
PROTOCOL = replace(PROTOCOL, name="hasty", timeout_s=30.0, seeds=1, search=SearchRule(trials=1))
'''
PLUGIN = '''"""{name}: {text}"""
import os, sys, time
import torch
from pathlib import Path
from torch.nn.functional import normalize
from protocols.method import Method, Term
from protocols.space import Real

def once(name):
    """Return True at the first call in this folder."""
    try:
        Path(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

class Wrong(Method):
    """A test method."""
    scale = Real(0.1, 10.0, default=1.0)
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        z = normalize(embeddings)
        same = labels[:, None] == labels
        loss = ((z @ z.T - same.float()) * self.scale).square().mean()
        if not Path("out/study.json").exists():
            return loss  # what goes wrong at the first look is refused before anything starts
        {body}
        return loss
'''
# What each does, the reason that its runs must show (None: a result), and in what words.
WRONG = {
    "diverges": ("loss = loss * torch.tensor(3e38) * 3e38", "non_finite", "diverges to infinity"),
    "not_finite": ("loss = loss * float('nan')", "non_finite", "returns NaN"),
    "hangs": ("time.sleep(3600)", "timeout", "hangs"),
    "exits": ("os._exit(0)", "crash", "calls os._exit"),
    "leaves": ("sys.exit(0)", "error", "calls sys.exit(0)"),
    "interrupts": ("raise KeyboardInterrupt", "error", "raises KeyboardInterrupt"),
    "speechless": (
        "raise type('E', (Exception,), {'__str__': lambda self: sys.exit(0)})()",
        "error",
        "raises an exception whose `__str__` raises",
    ),
    "raises": ("raise KeyError('no such thing')", "error", "raises an exception"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "crash", "breaks the interpreter"),
    "memory": ("raise torch.OutOfMemoryError('CUDA out of memory')", "oom", "is out of memory"),
    "memory_once": (
        "if once('memory'): raise MemoryError",
        None,
        "is out of memory at the first attempt",
    ),
    "cuda_once": (
        "if once('cuda'): raise RuntimeError('CUDA error: an illegal memory access')",
        None,
        "breaks its device at the first attempt",
    ),
    "mutates": ("embeddings.data.mul_(0); labels.zero_()", None, "overwrites its input"),
    "prints": ("print('x' * 200_000); print('y' * 200_000, file=sys.stderr)", None, "prints MB"),
    "threads": ("torch.manual_seed(0); torch.set_num_threads(4)", None, "meddles with torch"),
}


@pytest.fixture
def packages(tmp_path):
    """A folder with an installed package that brings the protocol ``hasty``."""
    folder = tmp_path / "packages"
    (folder / "hasty-1.dist-info").mkdir(parents=True)
    (folder / "hasty-1.dist-info" / "METADATA").write_text("Name: hasty\nVersion: 1\n")
    points = "[dml_benchmark.protocols]\nhasty = hasty\n"
    (folder / "hasty-1.dist-info" / "entry_points.txt").write_text(points)
    (folder / "hasty.py").write_text(HASTY)
    return folder


def reasons(out):
    runs = pd.read_csv(out / "tables" / "runs.csv").drop_duplicates("method")
    return {row.method: row.reason for row in runs.itertuples()}


@pytest.mark.faults
def test_every_wrong_method_is_a_row_and_harms_no_other(ledger, packages, tmp_path):
    out, alone = tmp_path / "wrong" / "out", tmp_path / "alone" / "out"
    for path in (out, alone):
        path.parent.mkdir()
    plugins = []
    for name, (body, _, text) in WRONG.items():
        path = out.parent / f"{name}.py"
        path.write_text(PLUGIN.format(name=name, body=body, text=text))
        plugins += ["--plugin", str(path)]
    environment = {"PYTHONPATH": f"{ROOT}:{packages}"}
    words = ("run", "--protocol", "hasty", "--methods", ",".join(["ms", *WRONG]), *plugins)
    process = start(*words, out=out, environment=environment)
    try:
        printed, _ = process.communicate(timeout=540)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 3, printed
    assert "Traceback" not in printed
    assert gone(process.pid)
    found = reasons(out)
    for name, (_, reason, text) in WRONG.items():
        outcome = f"failed run: `{reason}`" if reason else "a result; "
        outcome += {
            "memory_once": "tried again",
            "cuda_once": "tried again in a fresh process",
            "mutates": "`check` refuses it; no other row moves",
            "prints": "to workers.txt, not to the terminal",
            "threads": "`check` cannot see it; no other row moves",
        }.get(name, "")
        with ledger.attempt(METHODS, text, outcome.removesuffix("; ")):
            assert found[name] == reason or (reason is None and pd.isna(found[name]))
    again = [json.loads(p.read_text()) for p in (out / "records").rglob("*_once-*/*.fold-*.json")]
    assert sorted(r for job in again for r in job["measured"]["failed_attempts"]) == [
        "crash",
        "oom",
    ]
    words = ("run", "--protocol", "hasty", "--methods", "ms")
    process = start(*words, out=alone, environment=environment)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    with ledger.attempt(METHODS, "all of these in one study", "others keep every bit"):
        beside = truth(out)
        assert {path: beside[path] for path in truth(alone)} == truth(alone)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A study of two methods on two workers."""
    out = tmp_path_factory.mktemp("both") / "out"
    run("--methods", "triplet,ms", "--jobs", "2", out=out)
    return out


@pytest.mark.faults
@pytest.mark.parametrize("words", [("--jobs", "1"), ("--jobs", "4", "--deterministic")])
def test_workers_order_and_flag_change_no_bit(ledger, whole, both, tmp_path, words):
    outcome = "the same records, query files and tables"
    fault = f"{' '.join(words)}, methods in another order, against --jobs 2"
    with ledger.attempt("Determinism (CPU)", fault, outcome):
        out = tmp_path / "other" / "out"
        out.parent.mkdir()
        run("--methods", "ms,triplet", *words, out=out)
        assert truth(out) == truth(both)
        assert queries(out) == queries(both)
        assert tables(out) == tables(both)
        assert {k: v for k, v in truth(both).items() if k in truth(whole)} == truth(whole)
        flags = {
            json.loads(p.read_text())["measured"]["environment"]["deterministic"]
            for p in (out / "records").rglob("*.fold-*.json")
        }
        assert flags == {"--deterministic" in words}


@pytest.mark.faults
def test_a_tracking_server_is_killed_and_comes_back(ledger, whole, tmp_path):
    outcome = "the study does not wait; `sync` completes the mirror; same tables"
    with ledger.attempt("Stores", "MLflow server killed mid-run, restarted later", outcome):
        out, port = tmp_path / "study" / "out", free_port()
        out.parent.mkdir()
        environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        words = ("run", "--protocol", "toy", "--methods", "triplet")
        with server(tmp_path, port):
            process = start(*words, out=out, environment=environment)
            while sum(1 for _ in (out / "records").rglob("*.fold-*.json")) < 3:
                assert process.poll() is None, process.stdout.read()
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert "benchmark sync" in printed
        assert tables(out) == tables(whole)
        with server(tmp_path, port):
            process = start("sync", out=out, environment=environment)
            printed, _ = process.communicate(timeout=240)
            assert process.returncode == 0, printed
            process = start("sync", out=out, environment=environment)
            assert "0 records written" in process.communicate(timeout=240)[0]


@pytest.mark.faults
def test_a_search_database_that_is_away(ledger, whole, tmp_path):
    outcome = "one line without its password, no job lost; same tables"
    with ledger.attempt("Stores", "Optuna's PostgreSQL server is not there", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        uri = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/x"
        printed = run("--methods", "triplet", out=out, environment={"OPTUNA_STORAGE": uri})
        assert "Optuna's database at postgresql+psycopg://…@127.0.0.1" in printed
        assert "secret" not in printed
        assert tables(out) == tables(whole)
