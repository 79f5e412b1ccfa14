"""The first table of a study: every method on every dataset, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmark.statistics import paired
from benchmark.study.scores import MARKS, NOTHING, per_cent
from benchmark.submissions.findings.standing import Standing, standing
from benchmark.submissions.findings.studies import Entry, Study

WIDTH = 80
_METHOD, _RANK = 17, 5
_CELL = 14  # "48.11 ±0.93 ▲" and a space
_AT_ONCE = (WIDTH - _METHOD - _RANK) // _CELL  # datasets beside each other


def table(study: Study) -> str:
    """Return the study as text: MAP@R with interval and verdict, then the mean rank."""
    own = standing(study)
    parts = [study.datasets[at : at + _AT_ONCE] for at in range(0, len(study.datasets), _AT_ONCE)]
    blocks = ["\n".join(_block(study, own, part, last=part is parts[-1])) for part in parts]
    return "\n\n".join((*blocks, _caption(study)))


def _block(
    study: Study, own: Sequence[Standing], datasets: Sequence[str], *, last: bool
) -> Iterator[str]:
    width = _METHOD + _CELL * len(datasets) + _RANK * last
    names = "".join(f"{name}  ".rjust(_CELL) for name in datasets)
    yield f"{'Method':{_METHOD}}{names}{'Rank' if last else '':>{_RANK}}".rstrip()
    yield "─" * width
    aside = False
    for line in own:
        if not line.competes and not aside:
            aside = True
            yield "─" * width
        cells = "".join(_cell(line.entries.get(name)) for name in datasets)
        rank = f"{NOTHING if line.rank is None else format(line.rank, '.1f'):>{_RANK}}"
        yield f"{line.method:{_METHOD}}{cells}{rank if last else ''}".rstrip()


def _cell(entry: Entry | None) -> str:
    if entry is None or entry.head["mean"] is None:
        return f"{NOTHING + '  ':>{_CELL}}"
    head = entry.head
    low, mean = head["ci_low"], head["mean"]
    half = "" if low is None else f"±{per_cent(mean - low)}"
    mark = MARKS.get(head.get("verdict") or "", " ")
    return f"{per_cent(mean)} {half:<6}{mark}".rjust(_CELL)


def _caption(study: Study) -> str:
    family = {len(group) for group in _families(study)}
    size = f"{min(family)}" if len(family) == 1 else f"{min(family)} to {max(family)}"
    protocol = study.protocol
    said = [
        f"MAP@R of test classes, per cent ± t 95% over {protocol.seeds} seeds",
        f"against {study.baseline}: {', '.join(f'{mark} {word}' for word, mark in MARKS.items())} "
        f"(paired t, Holm over {size} comparisons of a dataset; equivalent is within "
        f"±{per_cent(paired.ROPE, 1)})",
        "rank: mean over the datasets, among methods that train the trunk",
        f"{protocol.name} v{protocol.version} {protocol.hash()}",
        f"trunk {study.trunk}, recipe {study.recipe}, {protocol.search.trials} trials a search, "
        f"{protocol.folds} folds",
    ]
    return textwrap.fill(" · ".join(said), WIDTH)


def _families(study: Study) -> Iterator[list[Entry]]:
    for group in study.by_dataset.values():
        yield [entry for entry in group if entry.head.get("verdict")]
