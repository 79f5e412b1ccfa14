"""The ledger of the fault suite; with ``--faults`` it becomes tests/FAULTS.md."""

import os
import platform
import signal
import time
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.long_run import HEADING
from tests.running import run

ROWS, STARTED, WHOLE = pytest.StashKey(), pytest.StashKey(), pytest.StashKey()
TABLE = Path(__file__).parent.parent / "FAULTS.md"
INTRODUCTION = """# What was broken on purpose

Written by `nox -s faults` from a run of {date} on {cores} cores, Python {python}, {minutes:.0f}
minutes. A fault is *survived* if the program did what stands at the end of its line, and nothing
else was harmed; *lost* is the rest."""


def pytest_configure(config):
    config.stash[ROWS], config.stash[STARTED] = Ledger(), time.time()


@pytest.fixture(scope="session")
def ledger(request):
    """The rows of this process; with ``--faults`` they are written where the whole suite ran."""
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    config = request.config
    config.stash[WHOLE] = files <= {item.path.name for item in request.session.items}
    return config.stash[ROWS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over the rows of a process that ran some of the files."""
    output = getattr(node, "workeroutput", {})
    for row in output.get("faults", ()):
        node.config.stash[ROWS].add(*row)
    if output.get("whole"):
        node.config.stash[WHOLE] = True


def pytest_sessionfinish(session):
    """Hand the rows to the process that started this one, or write them."""
    config = session.config
    whole = config.stash.get(WHOLE, False)
    if hasattr(config, "workeroutput"):
        config.workeroutput.update(faults=config.stash[ROWS].plain(), whole=whole)
    elif whole and config.getoption("--faults") and not config.getoption("keyword"):
        write(config.stash[ROWS], (time.time() - config.stash[STARTED]) / 60)


def write(found, minutes):
    text = INTRODUCTION.format(
        date=time.strftime("%Y-%m-%d"),
        cores=os.cpu_count(),
        python=platform.python_version(),
        minutes=minutes,
    )
    kept = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    _, heading, rest = kept.partition(HEADING)  # written by tests/long_run.py
    end = f"\n{heading}{rest}" if heading else ""
    TABLE.write_text(found.markdown(text) + end, encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def heard():
    """Let studies hear SIGHUP also where nohup started the tests: children inherit the deafness."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An undisturbed study."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run("--methods", "triplet", out=out)
    return out
