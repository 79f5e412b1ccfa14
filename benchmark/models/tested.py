"""The test images of a finished study, as its jobs saw them."""

from __future__ import annotations

from pathlib import Path

from benchmark.study import given
from benchmark.study.folder import CellKey, Study
from benchmark.study.references import digest_of
from benchmark.training import splits
from benchmark.training.splits import DataSource, Split
from protocols.dataset import recall_at
from protocols.discovery import Registry
from protocols.errors import DataError, StoreError


def source_of(study: Study, cell: CellKey, registry: Registry) -> DataSource:
    """Return where the decoded images of a cell's dataset lie, or can be decoded to.

    Raises:
        StoreError: they are not in the output folder any more, and the dataset cannot be opened
            where the study's run command found it.
    """
    digest = digest_of(study, cell)
    stem = cell.dataset.partition(":")[0]
    ks = recall_at(registry.module("dataset", cell.dataset), stem)
    cache = study.out / "cache"
    known = given.read(study.out)
    name, root = known.datasets.get(cell.dataset, cell.dataset), known.roots.get(cell.dataset)
    source = DataSource(name, digest, Path(root) if root else None, cache, cell.dataset, ks)
    gone = not all(path.is_file() for path in source.files(study.protocol))
    if gone and (why := _why_closed(source, registry)):
        raise StoreError(
            f"the decoded images of {cell.dataset} are not in {cache}, and {why}. A run with jobs "
            "left decodes them: repeat the study's run command with one more seed or method"
        )
    return source


def test_images(study: Study, cell: CellKey, registry: Registry) -> Split:
    """Return the test images of a cell's dataset, which its finished runs have opened too.

    They are decoded again where they are gone and the dataset ships with code.

    Raises:
        StoreError: see :func:`source_of`.
        DataError: an image cannot be decoded.
    """
    source = source_of(study, cell, registry)
    return splits.open_test(source, study.protocol.on(cell.dataset))


def _why_closed(source: DataSource, registry: Registry) -> str:
    """Return why a dataset cannot be opened where it was; empty if it can."""
    try:
        met = registry.load("dataset", source.name).digest(source.root)
    except DataError as error:
        if source.root is None:
            return "only run knows by its --root where the dataset lies"
        return f"where the study had them they are not any more ({str(error).rstrip('.')})"
    return "" if met == source.digest else "the dataset of this name has other images by now"
