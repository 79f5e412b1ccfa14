"""What a user has of a published dataset: archives, unpacked folders, or some of each."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from benchmark.intake.unpack import Limits, OnProgress, unpack
from protocols.datasets._official import Entry, Official, tree
from protocols.errors import DataError

_PACKED = (".zip", ".tgz", ".tar", ".gz", ".bz2", ".xz")
_DEPTH = 2  # In-Shop's archive holds an archive


def find(
    official: Official,
    source: Path,
    stage: Path,
    limits: Limits,
    progress: OnProgress,
    spoilt: frozenset[Path] = frozenset(),
) -> tuple[list[Entry], dict[str, Path]]:
    """Return the entries of ``source`` and all files that were looked through.

    The layout is tried on the files as they lie; if it is not complete, on what the archives
    among them hold too.

    Args:
        official: the dataset's rules.
        source: a folder, or one file, whose fellows from the publisher beside it count too.
        stage: an empty folder to unpack into.
        limits: bounds on what is unpacked.
        progress: told what is being done.
        spoilt: files that are known to be damaged and count as missing.

    Raises:
        DataError: something is missing or damaged.
    """
    files = {key: path for key, path in _files(source, official).items() if path not in spoilt}
    try:
        return official.entries(files), files
    except DataError:
        if not _archives(files, official, source):
            raise
    done: set[Path] = set()
    for _ in range(_DEPTH):
        for key, path in _archives(files, official, source).items():
            if path not in done:
                unpack(path, (stage / key).with_suffix(""), limits, progress)
                done.add(path)
        files |= tree(stage)
    return official.entries(files), files


def _files(source: Path, official: Official) -> dict[str, Path]:
    """Return the files of a folder; for one file, it and its fellows from the publisher."""
    if source.is_dir():
        return tree(source)
    if not source.is_file():
        raise DataError("no such file or folder")
    fellows = [p for p in sorted(source.parent.iterdir()) if p.is_file()]
    return {p.name: p for p in fellows if p == source or _is_handed_out(p.name, official)}


def _archives(files: dict[str, Path], official: Official, source: Path) -> dict[str, Path]:
    """Return those that are to be unpacked: known by name, or the one that was given."""
    lists = (".csv", ".mat", ".txt")
    return {
        key: path
        for key, path in files.items()
        if (path == source and not key.endswith(lists))
        or (_is_handed_out(path.name, official) and key.endswith(_PACKED))
    }


def _is_handed_out(name: str, official: Official) -> bool:
    patterns = (*official.archives, *official.lists)
    return any(fnmatch(name, pattern) for pattern in patterns)
