"""How many seeds a difference needs, by simulating the verdicts that the tables would give.

A pilot's runs say only roughly how far methods spread. So each simulated study first draws true
spreads that could have given the pilot's, then draws runs, and asks for the verdict as the tables
do, with Holm's correction over the declared family and the mark for unequal spread.

Source: Spiegelhalter and Freedman, "A predictive approach to selecting the size of a clinical
trial", 1986 (power averaged over what is not known); Gelman et al., "Bayesian Data Analysis",
section 3.6 (normal data with the inverse-Wishart posterior).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from benchmark.statistics.paired import LEVEL, MIN_RUNS, ROPE, t_interval
from benchmark.statistics.verdicts import VERDICTS, decide, simulated_evidence
from benchmark.study.seeds import seed

Floats = NDArray[np.float64]

POWER = 0.8
MOST = 300  # seeds; where more are needed, "> 300" is all that is said
STUDIES = 1_000  # simulated: standard error 0.013 at 80 %
_NUMBERS = 2_000_000  # drawn at once


@dataclass(frozen=True)
class Pilot:
    """What the finished runs of one table say of spreads; K methods beside the baseline.

    Attributes:
        family: declared comparisons, K or more.
        freedom: seeds of each method in common with the baseline, less one, (K,).
        baseline: sum of squares of the baseline's runs around their mean, at all its seeds.
        baseline_freedom: its seeds less one.
        slope: how far a method follows the baseline over common seeds, (K,).
        rest: sum of squares of a method's runs that the baseline does not explain, (K,).
        known: sum of squares of the baseline at the common seeds, (K,).
    """

    family: int
    freedom: NDArray[np.int64]
    baseline: float
    baseline_freedom: int
    slope: Floats
    rest: Floats
    known: Floats


def pilot(runs: Sequence[dict[int, float]], baseline: dict[int, float], family: int) -> Pilot:
    """Return what runs by seed say; each method must share three seeds with the baseline."""
    rows = []
    for own in runs:
        common = sorted(own.keys() & baseline.keys())
        x, y = (np.array([values[s] for s in common]) for values in (baseline, own))
        x, y = x - x.mean(), y - y.mean()
        known = float(x @ x)
        slope = float(x @ y) / known if known > 0 else 0.0
        rows.append((len(common) - 1, slope, float(((y - slope * x) ** 2).sum()), known))
    freedom, slopes, rest, known_at = (np.array(column) for column in zip(*rows, strict=True))
    all_runs = np.array(list(baseline.values()))
    whole = float(((all_runs - all_runs.mean()) ** 2).sum())
    return Pilot(family, freedom, whole, len(baseline) - 1, slopes, rest, known_at)


def spread(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the standard deviation of a pilot's differences and the ends of its 95 % interval.

    Of 3 pairs, the true deviation lies between 0.5 and 6.3 times the one found.
    """
    sd = t_interval(differences).sd
    assert sd is not None, "two pairs at least"
    freedom, tail = len(differences) - 1, (1 - LEVEL) / 2
    low, high = (sd * (freedom / float(chdtri(freedom, t))) ** 0.5 for t in (tail, 1 - tail))
    return sd, low, high


def chances(
    known: Pilot, difference: float, seeds: int, studies: int = STUDIES, rope: float = ROPE
) -> Floats:
    """Return how likely each method gets the right verdict if it is ``difference`` better, (K,).

    All other methods equal the baseline, the hardest case for Holm. The right verdict is
    ``better``, or ``equivalent`` where the difference is inside the margin.

    Args:
        known: of the pilot.
        difference: true mean difference, in the metric's unit.
        seeds: that every method would have.
        studies: how many are simulated.
        rope: half-width of the region of practical equivalence.
    """
    rng = np.random.default_rng(seed("planned study", seeds))
    wanted = VERDICTS.index("equivalent" if difference < rope else "better")
    methods = len(known.slope)
    hits, step = np.zeros(methods), max(1, _NUMBERS // ((methods + 1) * seeds))
    for start in range(0, studies, step):
        runs = _draw(known, seeds, min(step, studies - start), rng)
        evidence = simulated_evidence(runs)
        for method in range(methods):
            mean = evidence.mean.copy()
            mean[:, method] += difference
            code = decide(replace(evidence, mean=mean), known.family, rope).code
            hits[method] += np.count_nonzero(code[:, method] == wanted)
    return hits / studies


def seeds_for(known: Pilot, difference: float, rope: float = ROPE) -> list[int | None]:
    """Return the fewest seeds that give each method an 80 % chance, None beyond 300."""

    @cache
    def at(seeds: int) -> Floats:
        return chances(known, difference, seeds, rope=rope)

    return [_fewest(at, method) for method in range(len(known.slope))]


def _fewest(at: Callable[[int], Floats], method: int) -> int | None:
    low, high = MIN_RUNS - 1, MIN_RUNS
    while at(high)[method] < POWER:
        if high == MOST:
            return None
        low, high = high, min(MOST, 2 * high)
    # The chance rises with the seeds: halve between too few and enough.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle)[method] >= POWER else (middle, high)
    return high


def _draw(known: Pilot, seeds: int, studies: int, rng: np.random.Generator) -> Floats:
    """Return simulated runs (studies, 1 + K, seeds), the baseline first, all with mean 0.

    The spreads of a method and the baseline, and what they share, have the inverse-Wishart
    posterior of their common seeds, in its conditional form so that all methods meet the same
    baseline; the sd of their differences then has the chi-square posterior of those seeds.
    """
    methods = len(known.slope)
    variance = known.baseline / rng.chisquare(known.baseline_freedom, studies)
    base = np.sqrt(variance)[:, None] * rng.standard_normal((studies, seeds))
    # A baseline without spread has no slope to tell the method's spread of, so no degree is added.
    freedom = known.freedom + (known.known > 0)
    rest = known.rest / rng.chisquare(freedom, (studies, methods))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(np.where(known.known > 0, rest / known.known, 0.0))
    slope = known.slope + error * rng.standard_normal((studies, methods))
    own = np.sqrt(rest)[..., None] * rng.standard_normal((studies, methods, seeds))
    return np.concatenate([base[:, None], slope[..., None] * base[:, None] + own], axis=1)
