"""Rows of strangers: every forgery and every file that is meant to stop the check."""

import pytest

from tests.benchmark.conftest import submitted, toy_study  # noqa: F401
from tests.benchmark.submissions import test_forgeries as forged
from tests.benchmark.submissions.test_forgeries import checkout, results  # noqa: F401

NAMED = "`verify` names it in a few lines, honest rows beside it stay"
BOUNDED = "within 5 s, one line or few, no other row is concerned"


@pytest.mark.faults
@pytest.mark.parametrize("name", [*forged.FIGURES, *forged.ROWS])
def test_forged_rows(name, results, ledger):  # noqa: F811
    with ledger.attempt("Submissions", f"forged: {name}", NAMED):
        forged.test_a_forgery_is_named(name, results)


@pytest.mark.faults
@pytest.mark.parametrize("name", forged.DENIALS)
def test_files_that_are_to_stop_the_check(name, results, ledger, capsys):  # noqa: F811
    with ledger.attempt("Submissions", f"handed in: {name}", BOUNDED):
        forged.test_nothing_stops_the_check_for_all(forged.DENIALS[name], results, capsys)


@pytest.mark.faults
@pytest.mark.parametrize("name", forged.UNSEEN)
def test_challenges_of_oneself(name, results, ledger):  # noqa: F811
    with ledger.attempt("Submissions", f"challenged by the same person: {name}", NAMED):
        forged.test_the_same_person_is_seen(forged.UNSEEN[name], results)
