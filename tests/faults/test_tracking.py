"""The stores that are no truth: their page, a server that two studies share, other versions."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from benchmark.mirror import tracking
from benchmark.mirror.client import connect
from benchmark.study.folder import load_study
from tests.benchmark.mirror.test_page import below, ended_within
from tests.benchmark.mirror.test_tracking import free_port, server
from tests.running import run, start, tables, truth, workers_of

STORES = "Stores"


OWN = {"MLFLOW_TRACKING_URI": ""}  # of a study that is mirrored to the database in its folder
ODD = "50% a?b%20"  # signs that mean something else in the address of a database


@pytest.fixture(scope="module")
def shown(whole, tmp_path_factory):
    """A study that was gone on with in an odd place, where it made both databases."""
    out = tmp_path_factory.mktemp("shown") / ODD / "out"
    shutil.copytree(whole, out)
    (out / "search.db").unlink()
    for record in (out / "records").rglob("seed-1.json"):
        record.unlink()
    assert "behind" not in run("--methods", "triplet", out=out, environment=OWN)
    return out


def ended(*words, out, code=0, **environment):
    process = start(*words, out=out, environment={**OWN, **environment})
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == code, printed
    return printed


@pytest.mark.faults
def test_a_folder_whose_path_an_address_must_quote(ledger, whole, shown):
    outcome = "run, `sync`, `tables` and `ui` work there and make nothing beside it; same tables"
    with ledger.attempt(STORES, "`--out` with `?` and `%`", outcome):
        assert (truth(shown), tables(shown)) == (truth(whole), tables(whole))
        assert "0 records written" in ended("sync", out=shown)
        ended("tables", out=shown)
        assert {path.name for path in shown.glob("*.db")} == {"mlflow.db", "search.db"}
        with closing(sqlite3.connect(shown / "search.db")) as database:
            assert database.execute("SELECT count(*) FROM trials").fetchone() == (2,)
        assert list(shown.parent.iterdir()) == [shown]
        assert list(shown.parent.parent.iterdir()) == [shown.parent]


def asked(port, path="/health", host=None, origin=None, body=None):
    """Return the status of an answer of the page, 0 without any."""
    headers = {"Host": host or f"127.0.0.1:{port}", "Content-Type": "application/json"}
    if origin:
        headers["Origin"] = origin
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def served(out, port, *words, **environment):
    """Start the page and return its process when it answers."""
    process = start(
        "ui",
        *("--port", str(port), *words),
        out=out,
        environment={**OWN, **environment},
        stdout=subprocess.DEVNULL,
    )
    while asked(port) != 200:
        assert process.poll() is None
        time.sleep(0.2)
    return process


SEARCH = {"path": "/ajax-api/2.0/mlflow/experiments/search", "body": b'{"max_results": 1}'}


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "words", "status"),
    [
        (signal.SIGTERM, (), 403),
        (signal.SIGKILL, ("--allowed-hosts", "gpu-box"), 200),
        (signal.SIGHUP, ("--allowed-hosts", "*"), 200),
    ],
    ids=["SIGTERM", "SIGKILL", "SIGHUP"],
)
def test_the_page_asked_for_by_a_name_and_ended(ledger, shown, number, words, status):
    port = free_port()
    process, name = served(shown, port, *words), f"gpu-box:{port}"
    outcome = "refused as MLflow does; with `--allowed-hosts` it opens, and searches go through"
    with ledger.attempt(STORES, "`ui` asked for by another name", outcome):
        assert asked(port, "/", name) == status
        assert asked(port, host=name, origin=f"http://{name}", **SEARCH) == status
        assert asked(port, **SEARCH) == 200
        if words[1:] != ("*",):
            assert asked(port, host=name, origin="http://evil.example", **SEARCH) == 403
    outcome = "no process of it is left after half a second"
    with ledger.attempt(STORES, "`ui` ended by SIGTERM, SIGHUP, SIGKILL", outcome):
        session = below(process.pid)
        assert len(workers_of(session)) >= 3  # the keeper, MLflow, its server
        process.send_signal(number)
        assert ended_within(session, 0.5)
        assert process.wait(5) == (-9 if number == signal.SIGKILL else 130)


def refused(out, *words, says, **environment):
    printed = ended(*words, out=out, code=2, **environment)
    (line,) = printed.splitlines()
    assert line.startswith("benchmark: ")
    assert says in line
    return line


@pytest.mark.faults
def test_stores_that_mlflow_cannot_open(ledger, shown, tmp_path):
    """What the line says is done, and then the store opens."""
    out = tmp_path / "study" / "out"
    shutil.copytree(shown, out)
    outcome = "exit 2, one line; what it says to do is done, and it opens"
    with ledger.attempt(STORES, "database of a newer MLflow", outcome):
        with sqlite3.connect(out / "mlflow.db") as database:
            database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        refused(out, "ui", says="delete mlflow.db")
        (out / "mlflow.db").unlink()
        assert " 0 were there" in ended("sync", out=out)
    with ledger.attempt(STORES, "MLFLOW_TRACKING_URI names a folder (mlruns)", outcome):
        folder = {"MLFLOW_TRACKING_URI": f"file://{tmp_path}/mlruns"}
        line = refused(out, "ui", says="unset MLFLOW_TRACKING_URI", **folder)
        assert f"sqlite:///{tmp_path}/mlruns.db" in line
        database = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlruns.db"}
        assert " 0 were there" in ended("sync", out=out, **database)


@pytest.fixture
def two_studies(whole, tmp_path):
    """Two finished studies of equal cells in two folders."""
    studies = {name: tmp_path / name / "out" for name in "ab"}
    for out in studies.values():
        shutil.copytree(whole, out)
        (out / "study.id").unlink()  # else a server takes the copies for one study
    return list(studies.values())


def at_once(*processes):
    """Wait for processes that were started together; each must end well and warn of nothing."""
    for process in processes:
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert "is behind" not in printed


def held_of(client, out):
    """Return the runs that the server shows of a study, by record; none may be there twice."""
    (experiment,) = (e for e in client.search_experiments() if e.name.startswith("toy"))
    own = f"tags.study_id = '{(out / 'study.id').read_text().strip()}'"
    runs = client.search_runs([experiment.experiment_id], own, max_results=1000)
    found = {run.data.tags["record_id"]: run for run in runs}
    assert len(found) == len(runs)
    assert {run.info.status for run in runs} == {"FINISHED"}
    above = {run.info.run_id for run in runs}
    assert all(run.data.tags.get("mlflow.parentRunId", run.info.run_id) in above for run in runs)
    return found


def in_the_middle(client, out, environment):
    """Start a sync and return it when the server has the first of the study's runs."""
    process = start("sync", out=out, environment=environment)
    own = out / "study.id"
    while True:
        assert process.poll() is None, process.stdout.read()
        found = [e for e in client.search_experiments() if e.name.startswith("toy")]
        if found and own.exists():
            mine = f"tags.study_id = '{own.read_text().strip()}'"
            if client.search_runs([found[0].experiment_id], mine, max_results=1):
                return process


def cut_off(client, process, out, number, environment):
    """Send a signal to the server in the middle of a sync, which must say so and end."""
    asking = in_the_middle(client, out, environment)
    os.killpg(process.pid, number)
    printed, _ = asking.communicate(timeout=60)
    os.killpg(process.pid, signal.SIGCONT)
    assert asking.returncode == 2, printed
    said = f"reading {out}\nbenchmark: MLflow at http://127.0.0.1"
    assert printed.startswith(said), printed
    assert len(printed.splitlines()) == 2, printed


@pytest.mark.faults
def test_two_studies_and_one_server(ledger, two_studies, tmp_path):
    port, (finished, begun) = free_port(), two_studies
    uri = f"http://127.0.0.1:{port}"
    shared = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    client = connect(uri).client
    outcome = "exit 2, one line; the next `sync` completes it"
    with ledger.attempt(STORES, "MLflow server stopped or killed in a `sync`", outcome, 2):
        with server(tmp_path, port) as process:
            cut_off(client, process, finished, signal.SIGSTOP, shared)
            cut_off(client, process, begun, signal.SIGKILL, shared)
        for record in (begun / "records").rglob("seed-1.json"):
            record.unlink()
        with server(tmp_path, port):
            outcome = "each has all its runs, once; neither touches the other's"
            fault = "two folders with equal cells write to one MLflow server at once"
            with ledger.attempt(STORES, fault, outcome):
                words = ("run", "--protocol", "toy", "--methods", "triplet")
                at_once(
                    start("sync", out=finished, environment=shared),
                    start(*words, out=begun, environment=shared),
                )
                before = {out: held_of(client, out) for out in two_studies}
                assert before[finished].keys() == before[begun].keys()
                ids = [{run.info.run_id for run in found.values()} for found in before.values()]
                assert not ids[0] & ids[1]
            outcome = "both mend it at once by `sync`; what was replaced does not come back"
            with ledger.attempt(STORES, "parents, then the experiment deleted in the UI", outcome):
                for found in before.values():
                    cell = next(run for key, run in found.items() if key.startswith("cell:"))
                    client.delete_run(cell.info.run_id)
                client.delete_experiment(cell.info.experiment_id)
                at_once(*(start("sync", out=out, environment=shared) for out in two_studies))
                for out in two_studies:
                    assert held_of(client, out).keys() == before[out].keys()
                    assert tracking.sync(load_study(out), [], uri).written == 0
