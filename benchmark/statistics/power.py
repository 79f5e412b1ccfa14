"""How many seeds a difference needs, from the spread of a pilot's paired differences.

Source: the power of the paired t-test from the noncentral t distribution, for example Cohen,
"Statistical Power Analysis for the Behavioral Sciences", 1988.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import chdtri, nctdtr, stdtrit

from benchmark.statistics.paired import ALPHA
from protocols.errors import InvalidInputError

POWER = 0.8
_HUGE = 10.0  # found by the fewest pairs that give a p
_FAR = 5.0  # the normal tail beyond it is 3e-7
MOST = 10_000  # seeds; beyond that nobody asks how many


@dataclass(frozen=True)
class Needed:
    """Seeds that a comparison needs; None beyond 10,000.

    Attributes:
        sd: a standard deviation of the paired differences, in the metric's unit: the pilot's,
            then the low and the high end of its 95 % interval.
        seeds: for each of them.
    """

    sd: tuple[float, float, float]
    seeds: tuple[int | None, int | None, int | None]


def power(pairs: int, effect: float, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided paired t-test of ``pairs`` seeds finds ``effect``.

    Args:
        pairs: seeds that both methods have run, at least 2.
        effect: the true difference in standard deviations of the paired differences.
        alpha: level of the test.
    """
    freedom, shift = pairs - 1, abs(effect) * math.sqrt(pairs)
    critical = float(stdtrit(freedom, 1 - alpha / 2))
    above = 1 - float(nctdtr(freedom, shift, critical))
    # The wrong side has less than P(Z < -shift); beyond 5 the library's series gives NaN.
    return above + (float(nctdtr(freedom, shift, -critical)) if shift < _FAR else 0.0)


def pairs_for(effect: float, alpha: float = ALPHA, comparisons: int = 1) -> int | None:
    """Return the fewest pairs with 80 % power, None beyond 10,000.

    Never fewer than those whose smallest exact sign-flip p, 2 / 2^n, is within the level: a
    verdict needs that p too. With several comparisons each gets an equal part of ``alpha``, the
    worst that Holm's adjustment can ask of one.

    Raises:
        InvalidInputError: an effect that is not above 0.
    """
    if not effect > 0:
        raise InvalidInputError(f"effect {effect}: expected a difference above 0")
    part = alpha / comparisons
    effect = min(effect, _HUGE)
    low = high = max(2, math.ceil(math.log2(2 / part)))
    if power(low, effect, part) >= POWER:
        return low
    while power(high, effect, part) < POWER:
        if high == MOST:
            return None
        low, high = high, min(MOST, 2 * high)
    # Power rises with the pairs: halve between too few and enough.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, effect, part) >= POWER else (middle, high)
    return high


def needed(difference: float, sd: float, pilot: int, comparisons: int = 1) -> Needed:
    """Return the seeds that find ``difference``, and how far that can be off.

    Args:
        difference: to detect, in the metric's unit.
        sd: of the pilot's paired differences, in the same unit.
        pilot: pairs it comes from. Of 3, the true deviation lies between 0.5 and 6.3 times it.
        comparisons: in the declared family.
    """

    def pairs_of(deviation: float) -> int | None:
        # Without any spread only the floor under the p counts.
        effect = difference / deviation if deviation else math.inf
        return pairs_for(effect, comparisons=comparisons)

    freedom = pilot - 1
    low, high = (sd * math.sqrt(freedom / float(chdtri(freedom, t))) for t in (0.025, 0.975))
    return Needed((sd, low, high), (pairs_of(sd), pairs_of(low), pairs_of(high)))
