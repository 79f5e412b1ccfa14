"""How far another search, seed or test set would move a row, and the oracle gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmark.statistics import paired, variance
from benchmark.study.scores import HEADLINE_METRIC
from benchmark.submissions.findings.studies import Entry, Study, headline

_SDS = 1.96  # that many standard deviations to both sides hold 95 % of a normal distribution


@dataclass(frozen=True)
class Spread:
    """How far a number may lie from its like, 95 % of them; fractions of MAP@R.

    Attributes:
        method, dataset: whose.
        searches: how many searches it has.
        search: between searches, each with all of its seeds, the seeds' part taken out; None
            with a single search.
        seed: between the runs of one search.
        classes: half of the interval over test classes, None where there is none.
        share: of the variance of single runs that is the search's, with its 95 % interval.
    """

    method: str
    dataset: str
    searches: int
    search: float | None
    seed: float | None
    classes: float | None
    share: tuple[float, float | None, float | None] | None


@dataclass(frozen=True)
class Gap:
    """What the epoch that tested best would have claimed, over the runs that were watched.

    Attributes:
        method, dataset: whose.
        gap: claimed minus selected, a fraction of MAP@R of separated embeddings.
        selected, claimed: their means, fractions.
    """

    method: str
    dataset: str
    gap: paired.Interval
    selected: float
    claimed: float


def spreads(study: Study) -> list[Spread]:
    """Return the spread of every entry whose runs have one."""
    return [_spread(entry) for entry in study.entries if not entry.row.fixed]


def middle(found: Sequence[float | None]) -> float | None:
    """Return the median of what is known, None of nothing."""
    known = [value for value in found if value is not None]
    return median(known) if known else None


def gaps(study: Study) -> Iterator[Gap]:
    """Yield the oracle gap of every entry that was watched."""
    for entry in study.entries:
        runs = [(entry.row.runs[seed], own) for seed, own in sorted(entry.row.watched.items())]
        selected = [getattr(run.separated, HEADLINE_METRIC) for run, _ in runs if run.separated]
        found = [own.gap(run, HEADLINE_METRIC) for run, own in runs if run.separated]
        if found:
            mean = fmean(selected)
            claimed = mean + fmean(found)
            yield Gap(entry.method, entry.cell.dataset, paired.t_interval(found), mean, claimed)


def _spread(entry: Entry) -> Spread:
    searches = [entry.row, *entry.row.further]
    groups = [list(headline(row).values()) for row in searches]
    sources = variance.split(groups)
    low, high = entry.head.get("test_ci_low"), entry.head.get("test_ci_high")
    seed = sources.sd_seed
    if seed is None and len(groups[0]) > 1:
        seed = paired.t_interval(groups[0]).sd
    share = None
    if sources.share is not None:
        share = (sources.share, sources.share_low, sources.share_high)
    return Spread(
        method=entry.method,
        dataset=entry.cell.dataset,
        searches=len(searches),
        search=None if sources.sd_search is None else _SDS * sources.sd_search,
        seed=None if seed is None else _SDS * seed,
        classes=None if low is None or high is None else (high - low) / 2,
        share=share,
    )
