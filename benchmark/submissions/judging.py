"""What a rerun by somebody else says of a claim.

Source of the prediction interval: Hahn, "Factors for calculating two-sided prediction intervals
for samples from a normal distribution", JASA 64, 1969.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Literal

from scipy.special import stdtrit

from benchmark.statistics import paired
from benchmark.study.scores import HEADLINE
from benchmark.submissions.read import Rerun, SubmittedRow
from benchmark.submissions.schema import Run

Outcome = Literal["confirms", "refutes", "undecided"]

MIN_RERUN = 2  # seeds that somebody else must have run, to verify a row or to refute it
# Hangul fillers: letters to Unicode, blank to a reader.
_UNSEEN = "".join(map(chr, (0x115F, 0x1160, 0x3164, 0xFFA0)))
ROUNDING = 5e-4  # what another machine's rounding may move a run, where seeds do not spread


def prediction_interval(values: Sequence[float], count: int) -> tuple[float, float] | None:
    """Return where all of ``count`` further runs lie with a probability of 95 % or more.

    Student's t with Bonferroni's correction over the ``count`` runs. None below three values;
    never narrower than 0.05 points to either side.
    """
    interval = paired.t_interval(values)
    if interval.low is None or interval.mean is None or interval.sd is None:
        return None
    n, tail = interval.n, (1 - paired.LEVEL) / (2 * count)
    half = float(stdtrit(n - 1, 1 - tail)) * interval.sd * math.sqrt(1 + 1 / n)
    half = max(half, ROUNDING)
    return interval.mean - half, interval.mean + half


def judge(row: SubmittedRow, rerun: Rerun) -> Outcome:
    """Return what a rerun says of the claim, by the headline metric.

    It confirms with at least two runs, by somebody else, that all came through and lie inside
    the prediction interval of the claim's runs; it refutes with at least two runs outside, since
    one may be a mistake or made up. Runs that are the same, or another one's, count once. Where
    nothing is drawn there is one run, and one that finds the same but for rounding confirms it.
    """
    claimed = [v for run in row.runs.values() if not math.isnan(v := score_of(run, *HEADLINE))]
    runs = {_key(row, seed, run): run for seed, run in rerun.runs.items()}
    found = [score_of(run, *HEADLINE) for run in runs.values()]
    interval, enough = prediction_interval(claimed, max(len(found), 1)), MIN_RERUN
    if row.fixed and claimed:
        interval, enough = (claimed[0] - ROUNDING, claimed[0] + ROUNDING), 1
    if interval is None or same_person(row, rerun):
        return "undecided"
    low, high = interval
    through = [v for v in found if not math.isnan(v)]
    if sum(not low <= v <= high for v in through) >= MIN_RERUN:
        return "refutes"
    inside = all(low <= v <= high for v in through)
    return "confirms" if inside and len(through) == len(found) >= enough else "undecided"


def _key(row: SubmittedRow, seed: int, run: Run) -> object:
    """Return what tells a run from others; an untouched trunk may give all seeds one result."""
    return seed if row.untrained else run.embeddings_sha256 or seed


def same_person(row: SubmittedRow, rerun: Rerun) -> bool:
    """Return whether claim and rerun are by the same, or one of them does not say by whom."""
    names = [plain(x.who) if x else "" for x in (row.claim, rerun.challenge)]
    return names[0] == names[1] or "" in names


def plain(name: str) -> str:
    """Return what is left of a name for comparing: its letters and digits, without case.

    Unicode's compatibility form makes wide, joined and composed letters one; accents, spaces,
    punctuation and characters that nobody sees are left out.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if c.isalnum() and c not in _UNSEEN)


def score_of(run: Run | None, embedding: str, metric: str) -> float:
    """Return one of a run's metrics, NaN where it diverged or is not there."""
    scores = getattr(run, embedding) if run else None
    return getattr(scores, metric) if scores else math.nan
