"""How far another seed, search or test set would move a number, and the oracle gap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmark.statistics import paired, variance
from benchmark.study.scores import HEADLINE_METRIC
from benchmark.submissions.findings.studies import Entry, Study, headline


@dataclass(frozen=True)
class Spread:
    """Where a row's numbers spread; fractions of MAP@R.

    Attributes:
        method, dataset: whose.
        groups: the runs of each search that came through, the row's own search first.
        asked: how many runs a search has where all come through.
        row: standard deviation of the runs of the row's own search; None of one run.
        seed: the same of all its searches together: between the seeds of one of them.
        mean: half of the row's t-interval over its seeds, None below three.
        classes: half of the interval over test classes, None where there is none.
        search: standard deviation between searches, what seeds add to it taken out, and the ends
            that follow from the 95 % interval of its share in the variance; None with a single
            search. An end is None where the share may be all of it.
        share: of the variance of single runs that is the search's, with its 95 % interval.
        over: mean of the searches' means, with its t-interval over searches: alone of all, it is
            not conditional on one search.
    """

    method: str
    dataset: str
    groups: Sequence[Sequence[float]]
    asked: int
    row: float | None
    seed: float | None
    mean: float | None
    classes: float | None
    search: tuple[float, float | None, float | None] | None
    share: tuple[float, float | None, float | None] | None
    over: paired.Interval

    @property
    def searches(self) -> int:
        """Return how many searches the row has, with those of which no run came through."""
        return len(self.groups)

    @property
    def whole(self) -> bool:
        """Return whether all runs of all searches came through."""
        return all(len(group) == self.asked for group in self.groups)


@dataclass(frozen=True)
class Gap:
    """What the epoch that tested best would have claimed, over the runs that were watched.

    Attributes:
        method, dataset: whose.
        gap: claimed minus selected, a fraction of MAP@R of separated embeddings.
        selected, claimed: their means, fractions.
        looks: the most validations that a training of theirs had.
    """

    method: str
    dataset: str
    gap: paired.Interval
    selected: float
    claimed: float
    looks: int


def spreads(study: Study) -> list[Spread]:
    """Return the spread of every whole row that competes, method by method."""
    return [
        _spread(entry)
        for own in study.contestants.values()
        for entry in own.values()
        if not entry.fault and not entry.row.fixed
    ]


def pooled(found: Sequence[Spread], seeds: int) -> variance.Pooled | None:
    """Return how much more than a seed a search moves, over rows searched again that lost no run.

    Args:
        found: of all rows.
        seeds: of a search by the protocol, two or more.
    """
    again = [own for own in found if own.searches > 1 and own.whole and own.asked == seeds]
    return variance.pooled([own.groups for own in again])


def luck(study: Study) -> variance.Pooled | None:
    """Return how much more than a seed a search moves the rows of a study; None if unknown."""
    seeds = study.protocol.seeds
    return pooled(spreads(study), seeds) if seeds > 1 else None


def wider(ratio: float, seeds: int) -> float:
    """Return how many times wider a mean's interval would be if it held for another search too.

    Seeds alone give the mean a variance of sd² / seeds, and the search adds (ratio · sd)²: however
    many seeds there are, they all use what one search chose.

    Args:
        ratio: standard deviation between searches over that between the seeds of one search.
        seeds: over which the mean is taken.
    """
    return math.sqrt(1 + seeds * ratio**2)


def middle(found: Sequence[float | None]) -> float | None:
    """Return the median of what is known, None of nothing."""
    known = [value for value in found if value is not None]
    return median(known) if known else None


def gaps(study: Study) -> Iterator[Gap]:
    """Yield the oracle gap of every whole row that competes and was watched."""
    for entry in (entry for own in study.contestants.values() for entry in own.values()):
        runs = [(entry.row.runs[seed], own) for seed, own in sorted(entry.row.watched.items())]
        selected = [getattr(run.separated, HEADLINE_METRIC) for run, _ in runs if run.separated]
        found = [own.gap(run, HEADLINE_METRIC) for run, own in runs if run.separated]
        if found and not entry.fault:
            mean = fmean(selected)
            claimed = mean + fmean(found)
            looks = max(len(fold.step) for _, own in runs for fold in own.folds)
            gap = paired.t_interval(found)
            yield Gap(entry.method, entry.cell.dataset, gap, mean, claimed, looks)


def _spread(entry: Entry) -> Spread:
    searches = [entry.row, *entry.row.further]
    groups = [list(headline(row).values()) for row in searches]
    sources = variance.split(groups)
    own = paired.t_interval(groups[0])
    seed = own.sd if sources.sd_seed is None else sources.sd_seed
    search = share = None
    if sources.share is not None and sources.sd_search is not None and seed is not None:
        share = (sources.share, sources.share_low, sources.share_high)
        low, high = (_of_share(end, seed) for end in share[1:])
        search = (sources.sd_search, low, high)
    return Spread(
        method=entry.method,
        dataset=entry.cell.dataset,
        groups=groups,
        asked=entry.cell.seeds,
        row=own.sd,
        seed=seed,
        mean=_half(own.low, own.high),
        classes=_half(entry.head.get("test_ci_low"), entry.head.get("test_ci_high")),
        search=search,
        share=share,
        over=sources.mean,
    )


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def _of_share(share: float | None, seed: float) -> float | None:
    """Return the standard deviation between searches that has this share of the variance."""
    return None if share is None or share >= 1 else seed * math.sqrt(share / (1 - share))
