"""The rows of a table against its baseline: the comparisons that its verdicts are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.statistics import paired, untested, verdicts
from benchmark.study.scores import Part
from benchmark.submissions.judging import score_of
from benchmark.submissions.read import SubmittedRow


def values_of(row: SubmittedRow, seeds: int, part: Part) -> list[float]:
    """Return a metric at each of ``seeds`` seeds, NaN where the run diverged or is not there."""
    return [score_of(row.runs.get(seed), *part) for seed in range(seeds)]


def against(
    rows: Sequence[SubmittedRow], base: int, seeds: int, part: Part
) -> dict[int, verdicts.Judged]:
    """Return the comparison of every other row with the baseline, by its place in ``rows``.

    The family of tests is all that trains the trunk.

    Args:
        rows: of one table.
        base: where in ``rows`` the baseline stands.
        seeds: of a row by the protocol.
        part: the embedding and metric that are compared.
    """
    others = [n for n in range(len(rows)) if n != base]
    pairs = [(n, base) for n in others]
    declared = [not rows[n].stands_aside for n in others]
    own = [untested.Contestant(row.runs.values(), not row.untrained) for row in rows]
    many = seeds > paired.EXACT_PAIRS
    judged = verdicts.judge(
        np.array([values_of(row, seeds, part) for row in rows]),
        pairs,
        declared,
        sum(declared),
        flips=paired.draw_flips(seeds, np.random.default_rng(0)) if many else None,
        fixed=[row.fixed for row in rows],
        untested=untested.reasons(own, pairs),
    )
    return dict(zip(others, judged, strict=True))
