"""The first table of a study: every method on every dataset, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmark.statistics import paired
from benchmark.study.scores import MARKS, NOTHING, per_cent
from benchmark.submissions.findings import said
from benchmark.submissions.findings.places import Place
from benchmark.submissions.findings.spread import luck
from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.findings.training import UNTRAINED, is_mixed

WIDTH = 80
_METHOD, _RANK = 17, 5
DEVIATES = " †"
_CELL = 14  # "48.11 ±0.93 ▲" and a space


def table(study: Study, own: Sequence[Place]) -> str:
    """Return the study as text: MAP@R with interval and verdict, then the mean rank.

    Args:
        study: the study.
        own: its methods in their order.
    """
    wide = max(_METHOD, *(len(_name(place)) for place in own))
    at_once = max(1, (WIDTH - wide - _RANK) // _CELL)  # datasets beside each other
    parts = [study.datasets[at : at + at_once] for at in range(0, len(study.datasets), at_once)]
    blocks = ["\n".join(_block(own, part, wide, last=part is parts[-1])) for part in parts]
    below = textwrap.fill(" · ".join(caption(study, own)), WIDTH)
    return "\n\n".join((*blocks, below))


def _block(
    own: Sequence[Place], datasets: Sequence[str], wide: int, *, last: bool
) -> Iterator[str]:
    width = wide + _CELL * len(datasets) + _RANK * last
    names = "".join(f"{name}  ".rjust(_CELL) for name in datasets)
    yield f"{'Method':{wide}}{names}{'Rank' if last else '':>{_RANK}}".rstrip()
    yield "─" * width
    aside = False
    for line in own:
        if not line.competes and not aside:
            aside = True
            yield "─" * width
        cells = "".join(_cell(line.entries.get(name)) for name in datasets)
        rank = f"{NOTHING if line.rank is None else format(line.rank, '.1f'):>{_RANK}}"
        yield f"{_name(line):{wide}}{cells}{rank if last else ''}".rstrip()


def _name(place: Place) -> str:
    return f"{place.method}{DEVIATES * place.deviates}"


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return f"{NOTHING}  ".rjust(_CELL)
    if entry.fault:
        return f"{entry.fault}  ".rjust(_CELL)
    head = entry.head
    low, mean = head["ci_low"], head["mean"]
    half = "" if low is None else f"±{per_cent(mean - low)}{UNTRAINED * is_mixed(entry)}"
    mark = MARKS.get(head.get("verdict") or "", " ")
    return f"{per_cent(mean)} {half:<6}{mark}".rjust(_CELL)


def caption(study: Study, own: Sequence[Place]) -> list[str]:
    """Return how the first table is to be read, as phrases."""
    family = [sum(bool(e.head.get("verdict")) for e in own) for own in study.by_dataset.values()]
    size = f"{min(family)}" if len(set(family)) == 1 else f"{min(family)} to {max(family)}"
    protocol = study.protocol
    found = [
        f"MAP@R of test classes, per cent ± t 95% over {protocol.seeds} seeds",
        f"against {study.baseline}: {', '.join(f'{mark} {word}' for word, mark in MARKS.items())}",
        f"paired t-tests, stricter where spreads differ much, Holm-corrected over the {size} "
        "comparisons within each dataset; equivalent: shown to lie within "
        f"±{per_cent(paired.ROPE, 1)} points",
        f"rank: mean over the datasets, 1 is best, references excluded{_untested(own)}",
        f"conditional on one search of each method: {_luck(study)}",
    ]
    if any(place.deviates for place in own):
        found.append("† deviates from the protocol, as its claim.toml says")
    if any(map(is_mixed, study.entries)):
        found.append(
            f"{UNTRAINED} some runs kept a fold's untrained model (step 0): the mean is of two "
            "kinds of run, which no ± describes"
        )
    return [
        *found,
        f"{protocol.name} v{protocol.version} {protocol.hash()}",
        f"trunk {study.trunk}, recipe {study.recipe}, {protocol.search.trials} trials a search, "
        f"{protocol.folds} folds",
    ]


def _untested(own: Sequence[Place]) -> str:
    """Return that ranks are not tested, where the datasets are too few for it; else nothing."""
    untested = any(place.rank and place.across["note"] for place in own)
    return ", differences in rank not tested" if untested else ""


def _luck(study: Study) -> str:
    """Return that the luck of a search is not in the ±, and how large it is where that is known."""
    found = luck(study)
    if found is None:
        return "the luck of a search is not in the ±"
    wide = said.times_as_wide(study, found)
    return f"an interval that held for other searches too would be {wide}"
