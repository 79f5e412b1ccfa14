"""What the records of trials and runs say of the jobs that they were made from."""

import pytest

from benchmark.running import outcomes
from benchmark.study.folder import CellKey
from benchmark.study.records import JobRecord
from protocols.discovery import load

PROTOCOL = load("protocol", "toy")
CELL = CellKey("c", "toy", "tiny", "adam", "ms", "ms")
WHY = "TypeError: no (mine.py:7)"


def trial(number, *reasons):
    """Return a trial whose folds failed for these reasons, or came through."""
    scores = {PROTOCOL.selection_metric: 0.5}
    jobs = [
        JobRecord("j", "c", "search", number, fold, {}, "failed", reason=reason, detail=WHY)
        if reason
        else JobRecord("j", "c", "search", number, fold, {}, "done", validation=scores)
        for fold, reason in enumerate(reasons)
    ]
    return outcomes.trial_of(CELL, number, {}, jobs, PROTOCOL)


def test_a_failed_trial_says_at_which_fold_and_by_what():
    assert trial(0, None, "error").detail == f"fold 1: {WHY}"
    assert trial(0, None, None).detail == ""


def test_the_method_is_named_before_the_machine():
    assert trial(0, "oom", "error").detail.startswith("fold 1: ")


@pytest.mark.parametrize("reason", ["error", "oom"])
def test_a_run_without_a_setting_says_what_its_first_trial_met(reason):
    run = outcomes.untried_run(CELL, 0, [trial(0, None, reason), trial(1, "error", None)])
    assert run.reason == reason
    assert run.detail.startswith("every trial of the search failed: ")
    assert run.detail.endswith(f"; trial 0, fold 1: {WHY}")
