"""Truth on disk: one JSON file per finished job, trial, choice and run; written once.

A record is written to a temporary name, flushed and renamed, so a reader sees all of it or
nothing. It carries a checksum over its content; a record that is damaged or lies in another one's
place (:mod:`benchmark.study.places`) is set aside and its work is done again. What a clock or a
machine says stands under ``measured``: the rest is the same bits whether a study ran straight
through, was killed, or had another number of workers.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from protocols.errors import StoreError
from protocols.space import Settings

SCHEMA = 1
Status = Literal["done", "failed"]
Reason = Literal["oom", "non_finite", "crash", "timeout", "bad_data", "error"]
Metrics = dict[str, float]
# What a run cost, whatever the machine; see :func:`benchmark.training.job.execute`.
COUNTS = (
    "parameters_trained",
    "parameters_deployed",
    "images_trained",
    "images_protocol",
    "images_embedded",
)


@dataclass(frozen=True)
class JobRecord:
    """One training of one fold of one trial or run.

    Attributes:
        id: content address of the job.
        cell: id of its cell.
        stage: ``search`` or ``final``.
        number: the trial's or the seed's.
        candidate: ``raw`` or ``averaged``: which weights were kept.
        phases: the first step of each phase of method and recipe, None for one that was not
            reached; empty where there are none.
        history: per validation: step, mean training loss since the last one, metrics; the
            row of averaged weights says how many were averaged.
        validation: metrics on the fold's validation classes at ``best_step``.
        test: metrics on the test classes, of final jobs only.
        excluded: test queries without another image of their class.
        ties: test queries whose values depend on the order of the dataset's files, because an
            image of their class is exactly as near as another; see :mod:`protocols.metrics`.
        openings: every time test data was opened, in words.
        oracle: step and test metrics at every validation, only under ``--oracle-gap``.
        vectors_sha256: of the file with the test embeddings, of final jobs only.
        weights_sha256: of the file with the weights that embed, of final jobs only; whether the
            file is kept changes no record.
        counts: parameters and images, which cost and do not depend on the machine.
        measured: seconds, memory and failed attempts.
    """

    kind: ClassVar[str] = "job"
    id: str
    cell: str
    stage: Literal["search", "final"]
    number: int
    fold: int
    settings: Settings
    status: Status
    reason: Reason | None = None
    detail: str = ""
    steps: int = 0
    best_step: int | None = None
    candidate: str = "raw"
    phases: dict[str, int | None] = field(default_factory=dict)
    history: list[Metrics] = field(default_factory=list)
    validation: Metrics | None = None
    test: Metrics | None = None
    excluded: int | None = None
    ties: int | None = None
    openings: list[str] = field(default_factory=list)
    oracle: list[Metrics] = field(default_factory=list)
    vectors_sha256: str | None = None
    weights_sha256: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRecord:
    """One hyperparameter setting, scored by the mean of its folds' best validation values.

    ``measured`` has the seconds of its fold jobs together and what they were made with; ``detail``
    says of a failed one at which fold and by what.
    """

    kind: ClassVar[str] = "trial"
    id: str
    cell: str
    number: int
    settings: Settings
    status: Status
    value: float
    folds: list[float | None]
    reason: Reason | None = None
    detail: str = ""
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChoiceRecord:
    """The setting that the final runs use, written before any test image is opened.

    ``space`` is what was searched, as of :func:`protocols.space.described`; empty without a
    search. With it a report sees bounds and needs no method's code.
    """

    kind: ClassVar[str] = "choice"
    id: str
    cell: str
    rule: str
    trial: int | None
    settings: Settings
    value: float | None
    space: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One seed retrained on every fold with the chosen setting and tested once.

    Attributes:
        folds: test metrics of each fold's model, None where the fold failed.
        separated: mean over the fold models' test metrics.
        concatenated: test metrics of the joined embeddings.
        validation: mean over folds of the validation metrics.
        best_steps: where each fold's kept model stood.
        excluded, ties: of the joined embeddings, as in :class:`JobRecord`.
        phases: each fold's, as in :class:`JobRecord`.
        oracle: what each fold's best epoch on the test classes would have claimed, mean over
            folds, comparable with ``separated``; only under ``--oracle-gap``.
        embeddings_sha256: of the joined test embeddings.
        queries: per-query results: path below the output folder, and checksum.
    """

    kind: ClassVar[str] = "run"
    id: str
    cell: str
    seed: int
    settings: Settings
    status: Status
    folds: list[Metrics | None]
    reason: Reason | None = None
    detail: str = ""
    separated: Metrics | None = None
    concatenated: Metrics | None = None
    validation: Metrics | None = None
    best_steps: list[int | None] = field(default_factory=list)
    phases: list[dict[str, int | None]] = field(default_factory=list)
    excluded: int | None = None
    ties: int | None = None
    embeddings_sha256: str | None = None
    embeddings_shape: list[int] | None = None
    queries: dict[str, str] | None = None
    openings: list[str] = field(default_factory=list)
    oracle: Metrics | None = None
    counts: dict[str, int] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CellRecord:
    """What a cell is made of; its id is the digest of ``identity``."""

    kind: ClassVar[str] = "cell"
    id: str
    protocol: str
    protocol_version: int
    dataset: str
    trunk: str
    recipe: str
    method: str
    row: str
    identity: dict[str, Any]


Record = JobRecord | TrialRecord | ChoiceRecord | RunRecord | CellRecord
R = TypeVar("R", JobRecord, TrialRecord, ChoiceRecord, RunRecord, CellRecord)
KINDS: dict[str, type[Record]] = {
    cls.kind: cls for cls in (JobRecord, TrialRecord, ChoiceRecord, RunRecord, CellRecord)
}


class DamagedRecordError(StoreError):
    """A record that does not parse, or whose content is not what was written."""


def write(path: Path, record: Record) -> None:
    """Write ``record`` to ``path`` in one step; fractions stay fractions, no NaN.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    body = _body(record)
    text = _dump({**body, "sha256": _checksum(body)})
    write_bytes(path, (text + "\n").encode())


def checksum_of(record: Record) -> str:
    """Return the checksum (hex) that the record's file carries."""
    return _checksum(_body(record))


def _body(record: Record) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": record.kind, **asdict(record)}


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a crash leaves the old one, the new one or none, never a part.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"cannot write {path}: {error.strerror}. What is recorded is safe: make room or "
            "write access and run the same command again"
        ) from error


def load(path: Path) -> Record:
    """Return the record at ``path`` and change nothing.

    Raises:
        FileNotFoundError: there is none.
        DamagedRecordError: it does not parse, its checksum or its keys are wrong, or it is a
            folder or a pipe.
        StoreError: it cannot be read.
    """
    found = content(path)
    try:
        body = json.loads(found)
        checksum, schema = body.pop("sha256"), body.pop("schema")
        expected = _checksum({"schema": schema, **body})
        cls = KINDS[body.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedRecordError(f"{path}: not a record ({error})") from error
    if checksum != expected:
        raise DamagedRecordError(f"{path}: checksum {checksum} does not match its content")
    known, needed = _keys(cls.kind)
    if schema != SCHEMA or not needed <= body.keys() <= known:
        keys = sorted((needed - body.keys()) | (body.keys() - known))
        odd = ", ".join(keys) or f"schema {schema}, expected {SCHEMA}"
        raise DamagedRecordError(f"{path}: keys differ: {odd}")
    record: Record = cls(**body)
    return record


def content(path: Path) -> bytes:
    """Return the bytes at ``path``; a pipe that nobody writes to has none and is not waited for.

    Raises:
        FileNotFoundError: there is no file.
        DamagedRecordError: there is a folder in its place.
        StoreError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            return file.read() or b""
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise DamagedRecordError(f"{path}: not a record (a folder in its place)") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}. Choose another --out") from error


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has none


@cache
def _keys(kind: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return all keys of a kind, and those without a default.

    A field added later has a default, so that a record written before it still reads.
    """
    cls = KINDS[kind]
    plain = [f for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return frozenset(f.name for f in fields(cls)), frozenset(f.name for f in plain)


def _dump(body: object) -> str:
    return json.dumps(body, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _checksum(body: object) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
