"""Methods with failed runs stand apart, and what their runs would have to score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.statistics.ranking import Standing, apart, order

BEST = Standing("best", 0.5, 4)
LAST = Standing("last", 0.3, 4)


def test_failed_runs_have_no_place_among_complete_ones():
    broken, worse = Standing("broken", 0.9, 3, 1), Standing("worse", 0.1, 3, 1)
    found = order([worse, LAST, broken, BEST])
    assert [s.name for s in found] == ["best", "last", "broken", "worse"]


def test_what_failed_runs_would_have_to_score_by_hand():
    between = Standing("between", 0.45, 3, 1)
    # (3 * 45 + x) / 4 = 50 at x = 65; = 30 never, at x = -15
    assert apart(between, [BEST, LAST, between]) == (
        "between: 1 of 4 runs failed, not ranked and not compared; at least 65.00 each to reach "
        "best; no score would do to fall to last"
    )
    half = Standing("half", 0.45, 2, 2)
    assert apart(half, [BEST, LAST, half]) == (
        "half: 2 of 4 runs failed, not ranked and not compared; at least 55.00 each to reach best; "
        "at most 15.00 each to fall to last"
    )


def test_other_methods_with_failed_runs_are_not_compared_with():
    a, b = Standing("a", 0.45, 3, 1), Standing("b", 0.46, 3, 1)
    assert "b" not in apart(a, [BEST, a, b]).replace("best", "")
    assert apart(a, [a, b]) == "a: 1 of 4 runs failed, not ranked and not compared"


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 9), st.integers(1, 9))
def test_the_score_gives_the_mean_it_is_asked_for(mean, wanted, done, failed):
    score = Standing("a", mean, done, failed).score_for(wanted)
    assert (done * mean + failed * score) / (done + failed) == pytest.approx(wanted, abs=1e-9)
