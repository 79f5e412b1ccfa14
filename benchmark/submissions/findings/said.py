"""What was found, in sentences that hold for any study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmark.statistics.variance import Pooled
from benchmark.study.scores import per_cent
from benchmark.submissions.findings.chosen import lines, one_sided, worth
from benchmark.submissions.findings.exchanged import exchanges
from benchmark.submissions.findings.spread import Spread, gaps, luck, middle, spreads, wider
from benchmark.submissions.findings.studies import Study
from benchmark.submissions.findings.training import watched_went
from benchmark.tables.diagnostics import EDGE

_DECIDED = ("better", "worse", "equivalent")
_LISTED = 8  # rows; more of them are counted and not named
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
        f"all of them{named}, {some} on some and {nowhere} on none (one test per dataset). Their "
        f"{sum(total.values())} comparisons: {decided}, {undecided} inconclusive or not tested."
    )


def left_out(study: Study) -> str:
    """Return which of the protocol's datasets are not in the study, and why; empty for none."""
    said = "; ".join(f"{dataset} ({why})" for dataset, why in study.left_out.items())
    return f"Not covered: {said}." if said else ""


def below_references(study: Study) -> str:
    """Return which trained rows score below a row that trains no trunk; empty without such rows."""
    below, compared = [], 0
    for dataset, group in study.by_dataset.items():
        aside = [e for e in group if not e.competes and not e.fault and e.head["mean"] is not None]
        if not aside:
            continue
        best = max(aside, key=lambda e: float(e.head["mean"]))
        trained = [e for e in group if e.competes and not e.fault]
        compared += len(trained)
        below += [
            f"{e.method} on {dataset} (below {best.method})"
            for e in trained
            if e.head["mean"] < best.head["mean"]
        ]
    if not compared:
        return ""
    named = f": {', '.join(below[:_LISTED])}" if below else ""
    more = f" and {len(below) - _LISTED} more" if len(below) > _LISTED else ""
    return (
        f"Of {_counted(compared, 'trained row')} {len(below) or 'none'} "
        f"{'score' if len(below) > 1 else 'scores'} below the best row of the same dataset that "
        f"trains no part of the trunk (by means, not tested){named}{more}."
    )


def of_several_codes(study: Study) -> str:
    """Return whose rows are of more than one version of the method's code; empty for none."""
    found = []
    for method, own in study.by_method.items():
        versions: dict[str, list[str]] = {}
        for dataset, entry in own.items():
            versions.setdefault(entry.cell.made_of.method_code, []).append(dataset)
        if len(versions) > 1:
            parts = " / ".join(map(", ".join, versions.values()))
            found.append(f"{method} ({parts})")
    if not found:
        return ""
    return (
        f"Rows of {'; '.join(found)} are of more than one version of the method's code, each that "
        "of the commit which the row names."
    )


def moved(study: Study) -> str:
    """Return how far another seed, test set or search would move a number, in the median row."""
    every = spreads(study)
    seed, mean, by_class = (
        middle([getattr(own, name) for own in every]) for name in ("row", "mean", "classes")
    )
    if seed is None:
        return ""
    said = (
        f"Medians over the rows: single runs have a standard deviation of {per_cent(seed)} points "
        f"between seeds; the 95 % interval of a mean over seeds is ±{per_cent(mean)}"
    )
    if by_class is not None:
        said += f", and that over test classes is ±{per_cent(by_class)}"
    return " ".join((f"{said}. {_searched_again(study, every)}", *_exchanged(study)))


def _searched_again(study: Study, every: Sequence[Spread]) -> str:
    """Return what further searches of some rows add to the spread, pooled over these rows."""
    again = [own for own in every if own.searches > 1]
    if not again:
        return (
            "No row was searched more than once, so none of this includes variation between "
            "searches."
        )
    found = luck(study)
    said = f"{len(again)} of {len(every)} rows were searched more than once"
    if found is None:
        return f"{said}, and none of them has all its runs and a spread."
    out = len(again) - found.cells
    but = f" but {out} that lost runs or whose runs are all alike" if out else ""
    ends = ""
    if found.low is not None and found.high is not None:
        ends = f" (95 %: {found.low:.2f} to {found.high:.2f})"
    return (
        f"{said}. If the ratio is the same in all of them{but}, the standard deviation between "
        f"searches, net of what seeds contribute, is {found.ratio:.2f} times that between the "
        f"seeds of one search{ends}. The interval of a mean over "
        f"{study.protocol.seeds} seeds would then be {times_as_wide(study, found)} if it held for "
        "another search too. "
        "Every verdict, and every ± except the one over searches, is conditional on one search of "
        "each method."
    )


def times_as_wide(study: Study, found: Pooled) -> str:
    """Return how many times wider intervals would be if they held for other searches too.

    Args:
        study: the study.
        found: how much more than a seed a search moves.
    """
    seeds, ends = study.protocol.seeds, ""
    if found.low is not None and found.high is not None:
        ends = f" ({wider(found.low, seeds):.1f} to {wider(found.high, seeds):.1f})"
    return f"about {wider(found.ratio, seeds):.1f} times as wide{ends}"


def _exchanged(study: Study) -> Iterator[str]:
    """Yield how many verdicts of a dataset depend on which search of the baseline is taken."""
    for own in exchanges(study):
        count, moved = len(own.verdicts), own.moved
        named = f": {', '.join(moved)}" if moved else ""
        yield (
            f"{len(moved) or 'None'} of {_counted(count, 'verdict')} against {study.baseline} on "
            f"{own.dataset} {'is' if len(moved) == 1 else 'are'} not the same under all of its "
            f"{own.searches} searches{named}."
        )


def searching(study: Study) -> str:
    """Return what the searches were worth; empty without a search."""
    own = worth(study)
    if not own.searches:
        return ""
    gain = side = ""
    sides = one_sided(lines(study))
    if sides.settings:
        side = (
            f" Of {_counted(sides.settings, 'numeric setting')} whose searches chose another trial "
            f"than the defaults on every dataset, {sides.met} lie on the same side of the default "
            f"everywhere; drawn uniformly from their ranges, about {sides.expected:.0f} would."
        )
    if own.gain is not None:
        gain = (
            " Where another setting was chosen, its median gain over the defaults is "
            f"{per_cent(own.gain)} points on validation classes. It is the best of up to "
            f"{own.trials} trials on the classes that chose it, so part of the gain is selection "
            f"bias{_again(own.drop)}."
        )
    return (
        f"{own.defaults} of {own.searches} searches chose the authors' defaults, and "
        f"{own.on_edge} chose a value within {100 * EDGE:.0f} % of a bound of its range, "
        f"defaults not counted.{gain}{side}"
    )


def _again(drop: float | None) -> str:
    """Return how the chosen settings validate with the seeds of the runs, as an end of a sentence.

    Args:
        drop: how much lower than with those of the search, None where no row tells.
    """
    if drop is None:
        return ""
    link, side = (", though", "higher") if drop < 0 else (":", "lower")
    return (
        f"{link} retrained with other seeds, the chosen settings validate {per_cent(abs(drop))} "
        f"points {side} in the median"
    )


def oracle(study: Study) -> str:
    """Return what choosing the epoch on test would have claimed; empty where nothing watched."""
    every = list(gaps(study))
    if not every:
        return ""
    most = max(every, key=lambda gap: gap.gap.mean or 0.0)
    looks = max(gap.looks for gap in every)
    said = (
        f"Choosing among the up to {looks} validations of a training by the test classes would "
        f"have claimed {per_cent(middle([gap.gap.mean for gap in every]))} points more in the "
        f"median of {_counted(len(every), 'row')}, and {per_cent(most.gap.mean)} more for "
        f"{most.method} on {most.dataset}, the highest. Choosing settings by them is not in it."
    )
    return " ".join(filter(None, (said, watched_went(study))))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
