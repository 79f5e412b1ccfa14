"""Models that were not trained here, measured on a study's test images: rows to look at.

Each is one file below ``references/``, with a checksum over it. Such a row is never ranked with
those that were trained, never compared by a test, and no part of a submission.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.study import records
from benchmark.study.datasets import by_identity, identity
from benchmark.study.folder import CellKey, Study
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import digest

SCHEMA = 1
_NAME = re.compile(r"[\w.-]{1,60}")


@dataclass(frozen=True)
class Reference:
    """What a model that was not trained here scores on a study's test images.

    Attributes:
        name: of its row.
        dataset: the dataset's identity, see :mod:`benchmark.study.datasets`.
        dataset_digest: over its images and labels.
        file: name of the model's or the embeddings' file.
        file_sha256: of its content.
        compare: ``angle`` or ``distance``.
        size: numbers in an embedding.
        metrics: means over queries, fractions.
        excluded, ties: queries, as in a run's record.
        labels: class ids with queries that count.
        counts: queries of each of those classes.
        sums: by metric, sums over each class's queries.
        opening: what was opened to measure it, in words.
    """

    name: str
    dataset: str
    dataset_digest: str
    file: str
    file_sha256: str
    compare: str
    size: int
    metrics: dict[str, float]
    excluded: int
    ties: int
    labels: list[int]
    counts: list[float]
    sums: dict[str, list[float]]
    opening: str


def check_name(study: Study, name: str) -> None:
    """Raise InvalidInputError unless a reference row of ``study`` may have this name."""
    rows = {cell.row for cell in study.all_cells}
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise InvalidInputError(f"--name {name!r}: expected letters, digits, dots and dashes")
    if name in rows:
        raise InvalidInputError(
            f"--name {name!r}: a row of the study has this name; choose another"
        )


def write(study: Study, reference: Reference) -> Path:
    """Write a reference row and return its file; one of the same name is replaced.

    Raises:
        StoreError: it cannot be written.
    """
    body = {"schema": SCHEMA, **asdict(reference)}
    path = _folder(study) / f"{reference.name}@{_safe(reference.dataset)}.json"
    text = json.dumps({**body, "sha256": digest(body, 64)}, indent=1, sort_keys=True)
    records.write_bytes(path, f"{text}\n".encode())
    return path


def read(study: Study) -> Iterator[Reference]:
    """Yield the reference rows of a study's datasets, by name.

    One that was measured on other images than the study's by now is passed over.

    Raises:
        StoreError: one is damaged.
    """
    paths = sorted(_folder(study).glob("*.json"))
    digests = {identity(cell.dataset): digest_of(study, cell) for cell in study.cells if paths}
    for path in paths:
        found = _read(path)
        if digests.get(found.dataset) == found.dataset_digest:
            yield found


def alike(one: Path, other: Path) -> bool:
    """Return whether two files hold the same row, whatever own images are called in its words.

    Raises:
        StoreError: they differ, and one is damaged.
    """
    if records.content(one) == records.content(other):
        return True
    first, second = (_read(path) for path in (one, other))
    return replace(first, opening=by_identity(first.opening)) == replace(
        second, opening=by_identity(second.opening)
    )


def digest_of(study: Study, cell: CellKey) -> str:
    """Return the digest of a cell's dataset, empty before its record is written."""
    record = study.cell_record(cell)
    return str(record.identity["dataset_digest"]) if record else ""


def _read(path: Path) -> Reference:
    try:
        body: dict[str, Any] = json.loads(records.content(path))
        checksum = body.pop("sha256")
        if checksum == digest(body, 64) and body.pop("schema") == SCHEMA:
            return Reference(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    raise _damaged(path)


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged. Delete it and measure that model again with evaluate")


def _folder(study: Study) -> Path:
    return study.out / "references"


def _safe(dataset: str) -> str:
    return re.sub(r"[^\w.-]+", "-", dataset)
