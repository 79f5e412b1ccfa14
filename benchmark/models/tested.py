"""The test images of a finished study, as its jobs saw them."""

from __future__ import annotations

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
        StoreError: they are not in the output folder any more, and the dataset cannot be opened:
            a study does not keep where prepared images lie.
    """
    digest = digest_of(study, cell)
    stem = cell.dataset.partition(":")[0]
    ks = recall_at(registry.module("dataset", cell.dataset), stem)
    cache = study.out / "cache"
    source = DataSource(cell.dataset, digest, None, cache, cell.dataset, ks)
    gone = not all(path.is_file() for path in source.files(study.protocol))
    if gone and (why := _why_closed(cell.dataset, digest, registry)):
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


def _why_closed(dataset: str, digest: str, registry: Registry) -> str:
    """Return why a dataset cannot be opened by its name alone; empty if it can."""
    try:
        met = registry.load("dataset", dataset).digest(None)
    except DataError:  # it lies below a root
        return "only run knows by its --root where the dataset lies"
    return "" if met == digest else "the dataset of this name has other images by now"
