"""What an output folder holds that no result needs: it is made anew from records and images.

Records, per-query results, kept weights and reference rows are never among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.study import leftovers, partials
from benchmark.study.folder import Study
from protocols.errors import StoreError

# Evaluate decodes what ships with code; only run knows where prepared images lie.
_DECODED = (
    "decoded images and sums (tables make sums again, a run with jobs left the images; until then "
    "a report has no pictures)"
)


@dataclass(frozen=True)
class Kind:
    """Files of one kind and their size in bytes."""

    name: str
    files: tuple[Path, ...]
    bytes: int


def found(study: Study) -> list[Kind]:
    """Return what may go, by kind; change nothing.

    Only whoever holds the folder's lock may call this.
    """
    return [
        _kind(_DECODED, _cached(study)),
        _kind("embeddings and parts of files that killed processes left", leftovers.useless(study)),
        _kind("checkpoints that no training goes on from", partials.useless(study)),
    ]


def remove(study: Study, kinds: Sequence[Kind]) -> None:
    """Remove the files of ``kinds``, and the folders that they leave empty.

    Raises:
        StoreError: a file cannot be removed.
    """
    for path in (path for kind in kinds for path in kind.files):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot remove {path}: {error.strerror}. What was not removed stays as it is: put "
                "that right and run clean again"
            ) from error
    for root in (study.out / "cache", study.out / partials.FOLDER, study.out / "vectors"):
        for folder in sorted((p for p in root.rglob("*") if p.is_dir()), reverse=True):
            with suppress(OSError):  # one that is not empty
                folder.rmdir()


def _cached(study: Study) -> list[Path]:
    paths = (study.out / "cache").rglob("*")
    return [path for path in paths if path.is_file() and not path.name.startswith(".")]


def _kind(name: str, files: Sequence[Path]) -> Kind:
    return Kind(name, tuple(sorted(files)), sum(path.stat().st_size for path in files))
