"""What MLflow holds of a study, and what is added to it.

Layout: an experiment per set of rules, in it a run per cell, below that a run per trial and
seed, below those a run per fold. A trial or seed is written when its record is complete, with
its folds, so only a killed process leaves one RUNNING, and the next one replaces it. A cell is
RUNNING while the study is at work, and KILLED where that stopped before all its seeds were done.
Every run in MLflow carries a tag ``record_id``; a record whose run is there with the right status
and content is not written again. Every run also carries the id of its study, see
:mod:`benchmark.study.own_id`: several studies may share a server, and each sees and deletes only
what is its own.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

from benchmark.mirror.client import connect, create_database
from benchmark.mirror.experiment import open_experiment, own_database
from benchmark.mirror.nodes import (
    LAYOUT,
    STATUS,
    MetricPoint,
    Node,
    Shown,
    cell_node,
    content_of,
    environment_of,
    means_of,
    modified_ms,
    node_of,
    seconds_of,
    texts,
    under_table_of,
    user,
)
from benchmark.study import records
from benchmark.study.addresses import database_of, without_password
from benchmark.study.folder import FILE as STUDY_FILE
from benchmark.study.folder import CellKey, Study
from benchmark.study.own_id import own_id
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from protocols.protocol import digest
from protocols.space import Settings

FILE = "mirrored.json"
_PARENT, _CONTEXT = "mlflow.parentRunId", "mlflow.data.context"
_REPLACED = "replaced"
STUDY = "study_id"
LEVELS = {"cell": 0, "tables": 0, "trial": 1, "run": 1, "job": 2}  # of runs below each other
USER = user()
WHERE = {"host": platform.node(), "user": USER, "mlflow.user": USER}
_OPEN = ("RUNNING", "KILLED")  # of cells: at work, and stopped before all seeds were done
_PAGE = 1000


@dataclass
class _Known:
    """A run that is in MLflow."""

    id: str
    status: str
    tags: dict[str, str]


class Copy:
    """The experiment of a study in MLflow and an index of what it holds.

    Attributes:
        runs: runs by their tag ``record_id``.
        children: the keys in ``runs`` of a run's children, by the run's id.
    """

    def __init__(self, study: Study, uri: str) -> None:
        self.study, self.uri = study, uri
        self.runs: dict[str, _Known] = {}
        self.children: dict[str, list[str]] = {}
        self.written = self.already = self.removed = 0
        self.own = own_id(study.out)
        if (database := database_of(uri)) and not database.is_file():
            create_database(database)
        connection = connect(uri)
        self.client, self.entities, self.refused = connection
        self.experiment = open_experiment(study, uri, connection)
        self._index()

    def complete(self, artifacts: Sequence[Path]) -> None:
        """Add all that is missing and the artifacts, take out what left; note what is mirrored."""
        mirrored = stamp(self.study, self.uri)
        self.catch_up()
        self._remove_gone()
        self.stop()
        self._tables(artifacts)
        records.write_bytes(self.study.out / FILE, json.dumps(mirrored, indent=1).encode())

    def catch_up(self) -> None:
        """Add all that is on disk and not in MLflow."""
        for cell in self.study.all_cells:
            self._catch_up(cell)

    def stop(self) -> None:
        """End the runs of cells that are not done as KILLED; what is added reopens them."""
        for run in self.runs.values():
            if run.tags.get("kind") == "cell" and run.status == "RUNNING":
                self.client.set_terminated(run.id, status="KILLED")
                run.status = "KILLED"

    def _remove_gone(self) -> None:
        """Delete the runs of cells that the study no longer has, with all below them."""
        kept = {f"cell:{cell.id}" for cell in self.study.all_cells}
        for key in [key for key in self.runs if key.startswith("cell:") and key not in kept]:
            self._delete(key)
            self.removed += 1

    def add(self, cell: CellKey, record: Shown) -> None:
        """Write ``record``, with its folds, unless it is there with the same status."""
        if isinstance(record, ChoiceRecord):
            self._choose(cell, record)
            return
        key, cell_run = f"{record.kind}:{record.id}", self._cell(cell)
        known, whole = self.runs.get(key), (STATUS[record.status], content_of(record))
        if known and (known.status, known.tags.get("content")) == whole:
            self.already += 1
        else:
            self._reopen(cell_run)  # where it has ended, its means are about to change
            self._delete(key)
            self._write(node_of(self.study, cell, record), cell_run.id)
            self.written += 1
        if isinstance(record, RunRecord) and cell_run.status in _OPEN:
            self._close(cell, cell_run)

    def _reopen(self, run: _Known) -> None:
        if run.status != "RUNNING":
            self.client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"

    def _catch_up(self, cell: CellKey) -> None:
        choice = self.study.choice(cell)
        if choice:
            self._choose(cell, choice)
        done: list[Shown] = [*self.study.trials(cell), *self.study.runs(cell)]
        for record in done:
            self.add(cell, record)

    def _choose(self, cell: CellKey, choice: ChoiceRecord) -> None:
        """Give the cell's run the chosen setting."""
        run = self._cell(cell)
        known = run.tags.get("choice_id")
        if known == choice.id:
            self.already += 1
        elif known:  # another search's: MLflow lets nobody change a parameter, so start over
            self._delete(f"cell:{cell.id}")
            self._catch_up(cell)
        else:
            values = {
                "rule": choice.rule,
                "chosen_trial": choice.trial,
                "chosen_value": choice.value,
                "choice_id": choice.id,
            }
            self._reopen(run)
            self._batch(run, params=choice.settings, tags=texts(values))
            self.written += 1

    def _cell(self, cell: CellKey) -> _Known:
        key = f"cell:{cell.id}"
        if key not in self.runs:
            self._write(cell_node(self.study, cell), None)
        return self._named_as_under_tables(key)

    def _named_as_under_tables(self, key: str) -> _Known:
        """Return a run whose tags say the tables' protocol hash and folder, which may change."""
        run, wanted = self.runs[key], under_table_of(self.study)
        if not wanted.items() <= run.tags.items():
            self._batch(run, tags=wanted)
        return run

    def _close(self, cell: CellKey, known: _Known) -> None:
        """Once every seed has its run: the cell's means, its environment and its status."""
        runs = self.study.runs(cell)
        if len(runs) < self.study.runs_asked(cell):
            return
        failed = [run for run in runs if run.status == "failed"]
        tags = texts({"failed_runs": len(failed), "reason": failed[0].reason if failed else None})
        means = means_of(cell, runs, self.study.protocol.selection_metric)
        done: list[TrialRecord | RunRecord] = [*self.study.trials(cell), *runs]
        spent = [seconds for record in done for seconds in seconds_of(record).values()]
        # Without a step: a bar for each cell, not a curve over numbers of seeds.
        values = {**means, "seeds": len(runs) - len(failed), "seconds": fsum(spent)}
        metrics = [(name, value, 0) for name, value in values.items()]
        end = max(modified_ms(self.study.record_path(cell, run)) for run in runs)
        self._batch(known, tags=tags | environment_of(runs[0]), metrics=metrics, at_ms=end)
        known.status = "FAILED" if len(failed) == len(runs) else "FINISHED"
        self.client.set_terminated(known.id, status=known.status, end_time=end)

    def _tables(self, artifacts: Sequence[Path]) -> None:
        """Replace the artifacts of the run that holds tables and report."""
        key, now = "tables", time.time_ns() // 10**6
        if key not in self.runs:
            tags = {"kind": "tables", "record_id": key}
            self._write(Node(key, "tables", "FINISHED", now, now, tags, {}, []), None)
        run = self._named_as_under_tables(key)
        for path in artifacts:
            self.client.log_artifact(run.id, str(path), path.parent.name)
        if (rules := self.study.out / STUDY_FILE).is_file():
            self.client.log_artifact(run.id, str(rules))

    def _write(self, node: Node, parent: str | None) -> None:
        """Write a run and those below it; it is terminated last, when all is there."""
        tags = {**node.tags, STUDY: self.own, "layout": LAYOUT, **WHERE}
        tags |= {_PARENT: parent} if parent else {}
        created = self.client.create_run(self.experiment, node.start_ms, tags, node.name)
        run = _Known(created.info.run_id, "RUNNING", tags)
        self._note(node.key, run)
        self._batch(run, params=node.settings, metrics=node.metrics, at_ms=node.end_ms)
        if node.inputs:
            self._put_inputs(run, [self._input(node, *split) for split in node.inputs])
        for child in node.children:
            self._write(child, run.id)
        if node.status != run.status:
            self.client.set_terminated(run.id, status=node.status, end_time=node.end_ms)
            run.status = node.status

    def _put_inputs(self, run: _Known, inputs: list[Any]) -> None:
        """Say which data a run had. Put again after a refusal, it is the same.

        Equal data are one row in MLflow, which refuses one of two studies that add it at the
        same time; asked again it finds the row.
        """
        for _ in inputs:
            try:
                self.client.log_inputs(run.id, inputs)
            except self.refused as error:
                if getattr(error, "error_code", "") != "BAD_REQUEST":
                    raise
            else:
                return
        self.client.log_inputs(run.id, inputs)

    def _input(self, node: Node, context: str, key: str) -> Any:
        name = node.tags["dataset"]
        data = self.entities.Dataset(name, key, "local", json.dumps({"uri": name}))
        return self.entities.DatasetInput(data, [self.entities.InputTag(_CONTEXT, context)])

    def _batch(
        self,
        run: _Known,
        params: Settings | None = None,
        tags: dict[str, str] | None = None,
        metrics: Sequence[MetricPoint] = (),
        at_ms: int = 0,
    ) -> None:
        make = self.entities
        self.client.log_batch(
            run.id,
            metrics=[make.Metric(name, value, at_ms, step) for name, value, step in metrics],
            params=[make.Param(name, value) for name, value in texts(params or {}).items()],
            tags=[make.RunTag(name, value) for name, value in (tags or {}).items()],
        )
        run.tags.update(tags or {})

    def _delete(self, key: str) -> None:
        """Delete a run and those below it, which MLflow would leave alone."""
        if known := self.runs.pop(key, None):
            for child in self.children.pop(known.id, []):
                self._delete(child)
            self._drop(known.id)

    def _drop(self, run: str) -> None:
        """Delete one run; should the experiment be restored, its tag keeps it from coming back."""
        self.client.set_tag(run, _REPLACED, "true")
        self.client.delete_run(run)

    def _index(self) -> None:
        kept: set[str] = set()
        for run in self._own_runs():
            key, parent = run.tags["record_id"], run.tags.get(_PARENT)
            if run.tags.get(_REPLACED):  # it came back with its experiment
                self.client.delete_run(run.id)
            elif key in self.runs or (parent and parent not in kept) or _outdated(run):
                # Of an earlier version, or its parent was deleted by hand: it is written again.
                self._drop(run.id)
            else:
                self._note(key, run)
                kept.add(run.id)

    def _own_runs(self) -> Iterator[_Known]:
        """Yield this study's runs, parents first; in its own database those without an id too."""
        mine = "" if self.uri == own_database(self.study) else f"tags.{STUDY} = '{self.own}'"
        token, more = None, True
        found: list[_Known] = []
        while more:
            page = self.client.search_runs([self.experiment], mine, 1, _PAGE, None, token)
            for run in page:
                tags = run.data.tags
                if "record_id" in tags and tags.get(STUDY, self.own) == self.own:
                    found.append(_Known(run.info.run_id, run.info.status, tags))
            token = page.token
            more = bool(token)
        yield from sorted(found, key=lambda run: LEVELS.get(run.tags.get("kind", ""), 0))

    def _note(self, key: str, run: _Known) -> None:
        self.runs[key] = run
        if parent := run.tags.get(_PARENT):
            self.children.setdefault(parent, []).append(key)


def _outdated(run: _Known) -> bool:
    return run.tags.get("layout") != LAYOUT


def uri_of(study: Study, uri: str | None = None) -> str:
    """Return ``uri``, else ``MLFLOW_TRACKING_URI``, else a database in the output folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or own_database(study)


def stamp(study: Study, uri: str) -> dict[str, str | int]:
    """Return what ``mirrored.json`` holds when all records on disk are in MLflow.

    A record that was done again has the name of the first one, so sizes and times of writing
    count too: thousands of files are told apart without one being opened. A copy of the folder
    with other times costs a look at MLflow.
    """
    files = [path for cell in study.all_cells for path in study.folder(cell).glob("*.json")]
    abouts = [(path.relative_to(study.out).as_posix(), path.stat()) for path in files]
    held = sorted((name, about.st_size, about.st_mtime_ns) for name, about in abouts)
    held_at = {"uri": without_password(uri), "layout": LAYOUT}
    return {**held_at, "records": len(held), "digest": digest(held, 16)}
