"""The stores that are no truth: their page, a server that two studies share, other versions."""

import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.benchmark.mirror.test_page import below, ended_within
from tests.benchmark.mirror.test_tracking import free_port
from tests.running import start, workers_of

STORES = "Stores"


@pytest.fixture(scope="module")
def shown(whole, tmp_path_factory):
    """A finished study with a database of its own."""
    out = tmp_path_factory.mktemp("shown") / "study" / "out"
    shutil.copytree(whole, out)
    printed = ended("sync", out=out)
    assert "records written" in printed
    return out


OWN = {"MLFLOW_TRACKING_URI": ""}  # of a study that is mirrored to the database in its folder


def ended(*words, out, code=0, **environment):
    process = start(*words, out=out, environment={**OWN, **environment})
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == code, printed
    return printed


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
