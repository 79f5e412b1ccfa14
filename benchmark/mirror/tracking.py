"""The mirror beside a running study, and the same copy made later by ``sync``.

Truth is the records. What MLflow holds can be deleted and rebuilt from them at any time, so a
server that is away costs a warning and no job.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmark.mirror.client import connect
from benchmark.mirror.experiment import own_database
from benchmark.mirror.nodes import Shown
from benchmark.mirror.remedies import reason_of
from benchmark.mirror.store import FILE, Copy, stamp, uri_of
from benchmark.study.addresses import database_of, without_password
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, Record, RunRecord, TrialRecord
from protocols.errors import StoreError

RETRY_S = 60.0  # a server that was away is asked again, at most so often, when a record comes


@dataclass(frozen=True)
class SyncReport:
    """Trials, choices and runs written by a sync, those found in place, and where.

    ``removed`` counts cells that were in MLflow and are no longer in the study.
    """

    written: int
    already: int
    removed: int
    uri: str


class NoTracker:
    """Mirrors nothing."""

    def log(self, cell: CellKey, record: Record) -> None:
        """Do nothing."""

    def finish(self, artifacts: Sequence[Path], timeout_s: float) -> None:
        """Do nothing."""

    def stop(self, timeout_s: float) -> None:
        """Do nothing."""


class _Stop:
    """In the queue: the work ended before its time."""


_Item = tuple[CellKey, Shown] | list[Path] | _Stop


class Mirror:
    """Copies records to MLflow from a thread of its own, so the coordinator never waits.

    Args:
        study: the output folder.
        warn: takes the one line said if the mirror cannot be kept.
        uri: of the tracking server; see :func:`uri_of`.
    """

    def __init__(self, study: Study, warn: Callable[[str], None], uri: str | None = None) -> None:
        self._study, self._warn, self._uri = study, warn, uri_of(study, uri)
        self._copy: Copy | None = None
        self._ask_again = time.monotonic()
        self._silent = threading.Lock()  # taken by whoever warns first
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        # A daemon, so that a server that hangs cannot keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, cell: CellKey, record: Record) -> None:
        """Mirror a record that is on disk, some time soon; folds come with their record."""
        if isinstance(record, (TrialRecord, ChoiceRecord, RunRecord)):
            self._queue.put((cell, record))

    def finish(self, artifacts: Sequence[Path], timeout_s: float) -> None:
        """Mirror what is left and the tables and report; wait at most ``timeout_s``."""
        self._end(list(artifacts), timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Mirror what is left and end the cells that are not done; wait at most ``timeout_s``."""
        self._end(_Stop(), timeout_s)

    def _end(self, last: list[Path] | _Stop, timeout_s: float) -> None:
        self._queue.put(last)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._complain(f"not finished after {timeout_s:g} s")

    def _work(self) -> None:
        item: object = None
        while not isinstance(item, (list, _Stop)):
            item = self._queue.get()
            try:
                self._handle(item)
            # Whatever goes wrong here costs the mirror only: the records are safe.
            except Exception as error:
                self._copy, self._ask_again = None, time.monotonic() + RETRY_S
                self._complain(reason_of(error, self._uri, own_database(self._study)))

    def _handle(self, item: _Item) -> None:
        if isinstance(item, _Stop):
            if self._copy:  # else nothing was written yet, or a warning has said what is behind
                self._copy.stop()
        elif isinstance(item, list):
            self._copy = self._copy or Copy(self._study, self._uri)
            self._copy.complete(item)
        elif self._copy:
            self._copy.add(*item)
        elif time.monotonic() >= self._ask_again:
            self._copy = Copy(self._study, self._uri)
            self._copy.catch_up()  # the record just logged included: it is on disk

    def _complain(self, reason: str) -> None:
        if self._silent.acquire(blocking=False):
            self._warn(
                f"MLflow at {without_password(self._uri)} is behind ({reason}). The results are "
                f"safe; to mirror them later: python -m benchmark sync "
                f"--out {_quoted(self._study)}"
            )


Tracker = Mirror | NoTracker


def sync(study: Study, artifacts: Sequence[Path], uri: str | None = None) -> SyncReport:
    """Write what MLflow lacks of ``study``, redo what a kill left unfinished.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    uri = uri_of(study, uri)
    try:
        copy = Copy(study, uri)
        copy.complete(artifacts)
    # Broad: MLflow lets through what its servers, databases and artifact stores raise.
    except Exception as error:
        raise StoreError(
            f"MLflow at {without_password(uri)}: {reason_of(error, uri, own_database(study))}"
        ) from error
    return SyncReport(copy.written, copy.already, copy.removed, without_password(uri))


def check_store(study: Study, uri: str) -> None:
    """Raise StoreError where a page of the store at ``uri`` would show nothing, or not open."""
    again = f"The records hold all of it: python -m benchmark sync --out {_quoted(study)} writes it"
    if (database := database_of(uri)) and not database.is_file():
        raise StoreError(f"there is no mirror in {database} yet. {again}")
    try:
        connect(uri).client.search_experiments(max_results=1)
    # Broad, as in sync.
    except Exception as error:
        reason = reason_of(error, uri, own_database(study))
        raise StoreError(f"MLflow at {without_password(uri)}: {reason}. {again}") from error


def needs_sync(study: Study, uri: str | None = None) -> bool:
    """Return whether MLflow may lack records of ``study``; asks no server."""
    uri = uri_of(study, uri)
    database = database_of(uri)
    if database and not database.is_file():
        return True
    try:
        known = json.loads((study.out / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return bool(known != stamp(study, uri))


def _quoted(study: Study) -> str:
    return shlex.quote(str(study.out))
