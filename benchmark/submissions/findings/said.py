"""What was found, in sentences that hold for any study."""

from __future__ import annotations

from collections import Counter

from benchmark.study.scores import per_cent
from benchmark.submissions.findings.chosen import Worth, worth
from benchmark.submissions.findings.spread import Gap, gaps, middle, spreads
from benchmark.submissions.findings.standing import counts
from benchmark.submissions.findings.studies import Study

_DECIDED = ("better", "worse", "equivalent")


def found(study: Study) -> str:
    """Return how many methods beat the baseline on all datasets, on some and on none.

    Without the baseline, or before anything is compared, that is what is said.
    """
    if not study.compared:
        return f"Nothing is compared with {study.baseline} yet."
    datasets = len(study.datasets)
    wins = {
        method: [entry.head.get("verdict") for entry in own.values()]
        for method, own in study.contestants.items()
        if method != study.baseline and len(own) == datasets
    }
    beaten = {method: said.count("better") for method, said in wins.items()}
    everywhere = [method for method, times in beaten.items() if times == datasets]
    nowhere = [method for method, times in beaten.items() if not times]
    some = len(wins) - len(everywhere) - len(nowhere)
    named = f" ({', '.join(sorted(everywhere))})" if 0 < len(everywhere) <= 3 else ""
    first = (
        f"Of {_counted(len(wins), 'method')} with a row on all {datasets} datasets, "
        f"{_all(everywhere)} {study.baseline} on every one{named}, {some} on some and "
        f"{len(nowhere)} on none."
    )
    return f"{first} {_comparisons(study)}"


def moved(study: Study) -> str:
    """Return how far another seed, search or test set would move a number, in the median."""
    every = spreads(study)
    by_seed, by_class = middle([s.seed for s in every]), middle([s.classes for s in every])
    by_search = middle([s.search for s in every])
    known = [
        f"±{per_cent(half)} for {what}"
        for half, what in (
            (by_seed, "another seed"),
            (by_search, "another search"),
            (by_class, "other test classes"),
        )
        if half is not None
    ]
    if not known:
        return ""
    listed = " and ".join(filter(None, (", ".join(known[:-1]), known[-1])))
    searched = sum(s.search is not None for s in every)
    of = f" ({searched} of {len(every)} rows were searched more than once)" if searched else ""
    return f"In the median row 95 of 100 repetitions lie within {listed}, in points{of}."


def searching(study: Study) -> str:
    """Return what the searches were worth; empty without a search."""
    own: Worth = worth(study)
    if not own.searches:
        return ""
    gain = (
        f" In the median, the choice lies {per_cent(own.gain)} points above the defaults on "
        "validation classes."
        if own.gain is not None
        else ""
    )
    return (
        f"{own.defaults} of {own.searches} searches chose the authors' defaults, and "
        f"{own.on_edge} chose a value on a bound of its range.{gain}"
    )


def oracle(study: Study) -> str:
    """Return what choosing the epoch on test would have claimed; empty where nothing watched."""
    every: list[Gap] = list(gaps(study))
    if not every:
        return ""
    most = max(every, key=lambda gap: gap.gap.mean or 0.0)
    return (
        f"Choosing the epoch on the test classes would have claimed "
        f"{per_cent(middle([gap.gap.mean for gap in every]))} points more in the median of "
        f"{_counted(len(every), 'row')}, and {per_cent(most.gap.mean)} more for {most.method} on "
        f"{most.dataset}."
    )


def _comparisons(study: Study) -> str:
    total: Counter[str] = sum(counts(study).values(), Counter())
    undecided = sum(total.values()) - sum(total[word] for word in _DECIDED)
    words = [f"{total[word]} {word}" for word in _DECIDED]
    return f"{sum(total.values())} comparisons: {', '.join(words)}, {undecided} undecided."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _all(methods: list[str]) -> str:
    return f"{len(methods)} {'beats' if len(methods) == 1 else 'beat'}"
