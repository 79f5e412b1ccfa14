"""What a plan promises, kept by real runs where it was once broken."""

import re

import pytest

from tests.promised import span_and_bound
from tests.running import run


@pytest.mark.faults
def test_four_workers_wait_for_the_trials_of_one_cell(ledger, tmp_path):
    """Trials go one after the other, so two folds at once is all that a search has to do."""
    out = tmp_path / "study" / "out"
    out.parent.mkdir()
    outcome = "ends within the time that the plan bounds, by what its own jobs took"
    with ledger.attempt("States of the machine", "one cell under `--jobs 4`", outcome):
        printed = run("--methods", "ms", "--trials", "4", "--jobs", "4", out=out)
        assert re.search(r"jobs left, 4 at once on cpu: at most \d+ s", printed)
        span, bound = span_and_bound(out, 4)
        assert span < bound
