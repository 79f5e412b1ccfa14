"""How often a study's verdicts were looked at, and how many seeds were planned.

Running more seeds until a difference is called calls more differences than there are. What was
planned before the first final run, and each number of seeds at which verdicts were shown, is part
of what a verdict is worth, so it lies in the study's folder. Looking again at the same seeds is
no new look.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark.study import records
from benchmark.study.folder import Study
from protocols.errors import StoreError

FILE = "looks.json"


@dataclass(frozen=True)
class Looks:
    """What is known of planning and looking.

    Attributes:
        planned: seeds that were asked for before the first final run began; None if not known.
        seen: numbers of seeds at which verdicts were shown, rising.
        removed: rows that were taken out of the study after verdicts had been shown: with fewer
            comparisons the same difference is called sooner.
    """

    planned: int | None = None
    seen: tuple[int, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Return whether the last look is the planned one, so that error rates are as stated."""
        return bool(self.seen) and self.seen[-1] == self.planned and not self.removed

    def sentence(self) -> str:
        """Return what to know about seeds and rows; empty before any verdict was shown."""
        if not self.seen:
            return ""
        taken = f"; rows removed after a look: {', '.join(self.removed)}" if self.removed else ""
        return self._seeds() + taken

    def _seeds(self) -> str:
        last, before = self.seen[-1], self.seen[:-1]
        if last == self.planned:
            return f"{last} seeds, as planned before the first run"
        if self.planned is not None and last < self.planned:
            return f"verdicts at {last} of {self.planned} planned seeds: not the final ones"
        plan = "no number of seeds planned" if self.planned is None else f"planned {self.planned}"
        if before:
            times = ", ".join(map(str, self.seen))
            return (
                f"verdicts looked at {len(self.seen)} times ({times} seeds; {plan}): adding seeds "
                "until a difference is called makes more false verdicts than stated"
            )
        return f"{last} seeds, {plan}; verdicts not looked at with fewer"


def read_looks(study: Study) -> Looks:
    """Return what ``looks.json`` of the study's folder holds, nothing if there is none.

    Raises:
        StoreError: the file is damaged.
    """
    path = study.out / FILE
    try:
        body = json.loads(records.content(path))
        planned = None if body["planned"] is None else int(body["planned"])
        removed = tuple(str(row) for row in body.get("removed", ()))
        return Looks(planned, tuple(sorted({int(n) for n in body["seen"]})), removed)
    except FileNotFoundError:
        return Looks()
    except (ValueError, KeyError, TypeError, AttributeError, records.DamagedRecordError) as error:
        raise StoreError(
            f"{path} is damaged ({error}). It says how often verdicts were looked at: restore it, "
            "or delete it and say so beside the results"
        ) from error


def plan_seeds(study: Study) -> Looks:
    """Write down the number of seeds, unless a final run has begun under another plan."""
    looks = read_looks(study)
    folders = (study.folder(cell) for cell in study.all_cells)
    if any(path for folder in folders for path in folder.glob("seed-*.json")):
        return looks
    return _save(study.out, looks, replace(looks, planned=study.protocol.seeds))


def look(study: Study, seeds: int) -> Looks:
    """Record that verdicts were shown at ``seeds`` seeds.

    A look at fewer seeds than an earlier one is not recorded: it only means that a method with
    fewer runs was shown.
    """
    looks = read_looks(study)
    if looks.seen and seeds <= looks.seen[-1]:
        return looks
    return _save(study.out, looks, replace(looks, seen=(*looks.seen, seeds)))


def removed(study: Study, rows: Sequence[str]) -> Looks:
    """Record that rows were taken out of the study, if its verdicts have been shown."""
    looks = read_looks(study)
    if not looks.seen:
        return looks
    together = tuple(dict.fromkeys((*looks.removed, *rows)))
    return _save(study.out, looks, replace(looks, removed=together))


def merged(known: Sequence[Looks]) -> Looks:
    """Return every look that was taken anywhere, and the plan if all had the same one."""
    plans = {each.planned for each in known}
    return Looks(
        plans.pop() if len(plans) == 1 else None,
        tuple(sorted({seeds for each in known for seeds in each.seen})),
        tuple(dict.fromkeys(row for each in known for row in each.removed)),
    )


def write_looks(study: Study, looks: Looks) -> None:
    """Write ``looks`` into the study's folder.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    _save(study.out, read_looks(study), looks)


def _save(out: Path, before: Looks, after: Looks) -> Looks:
    if after != before:
        body = {name: value for name, value in asdict(after).items() if name != "removed" or value}
        text = json.dumps(body, indent=1, sort_keys=True) + "\n"
        records.write_bytes(out / FILE, text.encode())
    return after
