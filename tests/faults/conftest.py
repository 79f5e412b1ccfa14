"""The ledger of the fault suite; with ``--faults`` it becomes tests/FAULTS.md."""

import os
import platform
import time
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.long_run import HEADING
from tests.running import run

TABLE = Path(__file__).parent.parent / "FAULTS.md"
INTRODUCTION = """# What was broken on purpose

Written by `nox -s faults` from a run of {date} on {cores} cores, Python {python}, {minutes:.0f}
minutes. A fault is *survived* if the program did what stands at the end of its line, and nothing
else was harmed; *lost* is the rest."""


@pytest.fixture(scope="session")
def ledger(request):
    """The rows of this session; printed at its end, and written where the whole suite ran."""
    found, started = Ledger(), time.time()
    yield found
    text = INTRODUCTION.format(
        date=time.strftime("%Y-%m-%d"),
        cores=os.cpu_count(),
        python=platform.python_version(),
        minutes=(time.time() - started) / 60,
    )
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    whole = files <= {item.path.name for item in request.session.items}
    if request.config.getoption("--faults") and whole and not request.config.getoption("keyword"):
        kept = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
        _, heading, rest = kept.partition(HEADING)  # written by tests/long_run.py
        end = f"\n{heading}{rest}" if heading else ""
        TABLE.write_text(found.markdown(text) + end, encoding="utf-8")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An undisturbed study."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run("--methods", "triplet", out=out)
    return out
