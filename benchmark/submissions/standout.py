"""Rows that are out of line with the others of their table: no fault, but worth a human look.

A statistic cannot tell a discovery from an invention, so nothing is refused here. Compared are
rows that trained, with all others of the same protocol, dataset, trunk and recipe:

* spread: the variance over seeds against that of the others, by the chi-squared distribution;
* speed: images trained a second by the clock on the same device, and gain: mean MAP@R, by the
  distance above the others' median in median absolute deviations (times 1.4826, a normal's
  standard deviation). Below it nothing is odd: a row that ran beside others is slow, one of a
  costly method too.

* validation: the runs' validation against their separated test scores, and the search's best
  value against the runs' validation, both as ratios; far away on either side is odd, since what
  makes a dataset's validation classes easier makes them so for all methods;
* pairing: whether a row's seeds rise and fall with the baseline's, by Spearman's rank correlation
  over seeds, its chance times the number of rows. A seed fixes the first network and the batches,
  so some likeness is honest; runs whose seeds were exchanged to fit have too much of it, and the
  interval of their paired difference is too narrow.

Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, for speed and gain.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance

import numpy as np
from scipy.special import chdtr, chdtrc, chdtri, stdtr

from benchmark.statistics.across import ranks
from benchmark.study.scores import HEADLINE, per_cent
from benchmark.submissions.judging import score_of
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Run

MIN_OTHERS = 4  # rows beside one, below which nothing is usual
RARE = 1e-3  # chance of such a spread, both tails together
FAR = 5.0  # deviations from the median
_LEAST_SPEED = 0.05  # of a log speed: machines vary by as much from day to day
_LEAST_RATIO = 0.08  # of a log ratio: few seeds and a lucky trial move it by as much
_LEAST_GAIN = 2e-3  # a fifth of a point
_TO_SD = 1.4826
_FEW_SEEDS = 4  # of which even the very same order is no rare thing
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Measured:
    """A row with what is compared: variance and number of seeds, log speed, mean."""

    place: str
    device: str
    variance: float | None
    seeds: int
    speed: float | None
    mean: float
    by_seed: dict[int, float]
    is_baseline: bool
    ratios: dict[str, float]  # logarithms, by what they compare


def looks(rows: Iterable[SubmittedRow]) -> list[str]:
    """Return a line for each row and statistic out of line, with the statistic."""
    tables: dict[tuple[str, ...], list[_Measured]] = defaultdict(list)
    for row in rows:
        if row.cell and not row.untrained and (found := _measured(row)):
            cell = row.cell
            key = (cell.protocol_hash, cell.dataset, cell.trunk, cell.recipe)
            tables[key].append(found)
    return [line for table in tables.values() for line in _of(table)]


def _measured(row: SubmittedRow) -> _Measured | None:
    """Return a row's statistics, None where no run came through."""
    runs = [run for run in row.runs.values() if run.status == "done"]
    scores = {seed: score_of(run, *HEADLINE) for seed, run in sorted(row.runs.items())}
    by_seed = {seed: score for seed, score in scores.items() if not math.isnan(score)}
    found = list(by_seed.values())
    if not found:
        return None
    speeds = [run.counts.get("images_trained", 0) / max(run.train_s, 1e-3) for run in runs]
    fast = median(speeds)
    return _Measured(
        place=row.place,
        device=runs[0].environment.device,
        variance=variance(found) if len(found) > 1 else None,
        seeds=len(found),
        speed=math.log(fast) if fast > 0 else None,
        mean=fmean(found),
        by_seed=by_seed,
        is_baseline=row.cell is not None and row.cell.method == row.cell.made_of.rules.baseline,
        ratios=_ratios(row, runs),
    )


def _ratios(row: SubmittedRow, runs: Sequence[Run]) -> dict[str, float]:
    """Return log ratios of means of the headline metric that a row's search and runs claim."""
    metric = HEADLINE[1]
    validated = [getattr(run.validation, metric) for run in runs if run.validation]
    tested = [getattr(run.separated, metric) for run in runs if run.separated]
    chosen = row.cell.chosen.value if row.cell else None
    if not validated or not tested or 0 in (validation := fmean(validated), fmean(tested), chosen):
        return {}
    found = {"validation to separated test scores": math.log(validation / fmean(tested))}
    if chosen is not None:
        found["the search's best value to the runs' validation"] = math.log(chosen / validation)
    return found


def _of(table: Sequence[_Measured]) -> Iterator[str]:
    for base in (row for row in table if row.is_baseline):
        yield from _paired(base, [row for row in table if row is not base])
    for row in table:
        others = [other for other in table if other is not row]
        if len(others) >= MIN_OTHERS:
            yield from _spread(row, others)
            yield from _speed(row, [o for o in others if o.device == row.device])
            yield from _gain(row, others)
            yield from _validation(row, others)


def _paired(base: _Measured, others: Sequence[_Measured]) -> Iterator[str]:
    """Yield rows whose seeds rise and fall with the baseline's more than seeds do."""
    for row in others:
        shared = sorted(row.by_seed.keys() & base.by_seed.keys())
        a, b = (ranks(np.array([of.by_seed[seed] for seed in shared])) for of in (row, base))
        if len(shared) <= _FEW_SEEDS or 1 in (len(set(a)), len(set(b))):
            continue
        rho = float(np.corrcoef(a, b)[0, 1])
        freedom = len(shared) - 2
        t = rho * math.sqrt(freedom / max(1 - rho * rho, _ROUNDING))
        chance = float(stdtr(freedom, -t)) * len(others)
        if chance < RARE:
            yield (
                f"{row.place}: over {len(shared)} seeds its runs rank as those of {base.place} "
                f"(Spearman's rho {rho:.3f}, p {chance:.1e} over {len(others)} rows): are they of "
                "these seeds?"
            )


def _spread(row: _Measured, others: Sequence[_Measured]) -> Iterator[str]:
    """Yield a spread over seeds that is too small or too large for the others' median one."""
    usual = [o for o in others if o.variance is not None and o.seeds == row.seeds]
    if row.variance is None or len(usual) < MIN_OTHERS:
        return
    freedom = row.seeds - 1
    middle = median(o.variance for o in usual if o.variance is not None)
    # The median of a variance lies below its mean, by the median of chi-squared over its freedom.
    expected = middle * freedom / float(chdtri(freedom, 0.5))
    if expected <= 0:
        return
    scaled = freedom * row.variance / expected
    chance = 2 * float(min(chdtr(freedom, scaled), chdtrc(freedom, scaled)))
    if chance < RARE:
        rare = f"{chance:.1e}" if chance > 0 else "below 1e-300"
        sd, other = per_cent(math.sqrt(row.variance), 3), per_cent(math.sqrt(expected), 3)
        yield (
            f"{row.place}: spread over {row.seeds} seeds is {sd} points, of other rows {other} "
            f"(chi-squared, p {rare} if all spread alike)"
        )


def _speed(row: _Measured, others: Sequence[_Measured]) -> Iterator[str]:
    """Yield a speed that others on the same device do not come near."""
    usual = [o.speed for o in others if o.speed is not None]
    if row.speed is None or len(usual) < MIN_OTHERS:
        return
    away = _away(row.speed, usual, _LEAST_SPEED)
    if away > FAR:
        own, other = math.exp(row.speed), math.exp(median(usual))
        yield (
            f"{row.place}: trains {own:.0f} images a second, the median of other rows {other:.0f} "
            f"({away:+.1f} robust standard deviations of the logarithm)"
        )


def _gain(row: _Measured, others: Sequence[_Measured]) -> Iterator[str]:
    """Yield a mean that is far from the others'; only one above can be too good."""
    usual = [o.mean for o in others]
    away = _away(row.mean, usual, _LEAST_GAIN)
    if away > FAR:
        yield (
            f"{row.place}: MAP@R {per_cent(row.mean)} %, other rows {per_cent(median(usual))} % "
            f"({away:+.1f} deviations)"
        )


def _validation(row: _Measured, others: Sequence[_Measured]) -> Iterator[str]:
    """Yield a ratio of validation to what belongs to it that others do not come near."""
    for what, own in row.ratios.items():
        usual = [o.ratios[what] for o in others if what in o.ratios]
        if len(usual) >= MIN_OTHERS and abs(away := _away(own, usual, _LEAST_RATIO)) > FAR:
            yield (
                f"{row.place}: {what} is {math.exp(own):.2f}, of other rows "
                f"{math.exp(median(usual)):.2f} ({away:+.1f} robust standard deviations of the "
                "logarithm)"
            )


def _away(value: float, others: Sequence[float], least: float) -> float:
    """Return the distance from the others' median in deviations, none smaller than ``least``."""
    middle = median(others)
    spread = _TO_SD * median(abs(other - middle) for other in others)
    return (value - middle) / max(spread, least)
