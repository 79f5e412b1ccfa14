"""What was found, in sentences that hold for any study."""

from __future__ import annotations

from collections import Counter

from benchmark.study.scores import per_cent
from benchmark.submissions.findings.chosen import worth
from benchmark.submissions.findings.spread import gaps, middle, spreads
from benchmark.submissions.findings.studies import Study

_DECIDED = ("better", "worse", "equivalent")
_NAMED = 3  # methods; more of them are counted and not named


def found(study: Study) -> str:
    """Return how many methods beat the baseline on all datasets, on some and on none."""
    datasets = len(study.datasets)
    verdicts = {
        method: [entry.head.get("verdict") for entry in own.values()]
        for method, own in study.whole.items()
        if method != study.baseline
    }
    if not verdicts:
        return f"No method but {study.baseline} has a whole row on all {datasets} datasets yet."
    times = {method: own.count("better") for method, own in verdicts.items()}
    everywhere = sorted(method for method, wins in times.items() if wins == datasets)
    nowhere = sum(not wins for wins in times.values())
    some = len(times) - len(everywhere) - nowhere
    named = f" ({', '.join(everywhere)})" if 0 < len(everywhere) <= _NAMED else ""
    total = Counter(verdict for own in verdicts.values() for verdict in own)
    decided = ", ".join(f"{total[word]} {word}" for word in _DECIDED)
    undecided = sum(total.values()) - sum(total[word] for word in _DECIDED)
    return (
        f"Of {_counted(len(times), 'method')} with a whole row on all {datasets} datasets, "
        f"{len(everywhere)} {'beats' if len(everywhere) == 1 else 'beat'} {study.baseline} on "
        f"every one{named}, {some} on some and {nowhere} on none, each dataset tested by itself. "
        f"Their {sum(total.values())} comparisons: {decided}, {undecided} undecided."
    )


def moved(study: Study) -> str:
    """Return how far another seed, test set or search would move a number, in the median row."""
    every = spreads(study)
    seed, mean, by_class = (
        middle([getattr(own, name) for own in every]) for name in ("seed", "mean", "classes")
    )
    if seed is None:
        return ""
    said = (
        f"In the median row single runs have a standard deviation of {per_cent(seed)} points "
        f"between seeds, and the row's mean is known to ±{per_cent(mean)}"
    )
    if by_class is not None:
        said += f"; other test classes would move it by ±{per_cent(by_class)}"
    again = [own.search for own in every if own.search]
    if not again:
        return f"{said}."
    highest = middle([high for _, _, high in again])
    end = f" (at most {per_cent(highest)} by its interval)" if highest is not None else ""
    return (
        f"{said}. Where a row was searched more than once, {len(again)} of {len(every)}, searches "
        f"add a standard deviation of {per_cent(middle([sd for sd, _, _ in again]))}{end}."
    )


def searching(study: Study) -> str:
    """Return what the searches were worth; empty without a search."""
    own = worth(study)
    if not own.searches:
        return ""
    gain = ""
    if own.gain is not None:
        gain = (
            f" In the median the choice lies {per_cent(own.gain)} points above the defaults on "
            f"validation classes: the best of up to {own.trials} tries on the classes that chose "
            "it, so part of that is luck."
        )
    return (
        f"{own.defaults} of {own.searches} searches chose the authors' defaults, and "
        f"{own.on_edge} chose a value on a bound of its range.{gain}"
    )


def oracle(study: Study) -> str:
    """Return what choosing the epoch on test would have claimed; empty where nothing watched."""
    every = list(gaps(study))
    if not every:
        return ""
    most = max(every, key=lambda gap: gap.gap.mean or 0.0)
    return (
        f"Choosing the epoch on the test classes would have claimed "
        f"{per_cent(middle([gap.gap.mean for gap in every]))} points more in the median of "
        f"{_counted(len(every), 'row')}, and {per_cent(most.gap.mean)} more for {most.method} on "
        f"{most.dataset}."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
