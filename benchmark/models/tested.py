"""The test images of a finished study, as its jobs saw them."""

from __future__ import annotations

from benchmark.study.folder import CellKey, Study
from benchmark.study.references import digest_of
from benchmark.training import splits
from benchmark.training.splits import DataSource, Split
from protocols.dataset import recall_at
from protocols.discovery import Registry
from protocols.errors import StoreError


def source_of(study: Study, cell: CellKey, registry: Registry) -> DataSource:
    """Return where the decoded images of a cell's dataset lie.

    Raises:
        StoreError: they are not in the output folder any more.
    """
    digest = digest_of(study, cell)
    stem = cell.dataset.partition(":")[0]
    ks = recall_at(registry.module("dataset", cell.dataset), stem)
    cache = study.out / "cache"
    source = DataSource(cell.dataset, digest, None, cache, cell.dataset, ks)
    if not all(path.is_file() for path in source.files(study.protocol)):
        raise StoreError(
            f"the decoded images of {cell.dataset} are not in {cache}: the study's run command "
            "makes them again"
        )
    return source


def test_images(study: Study, cell: CellKey, registry: Registry) -> Split:
    """Return the test images of a cell's dataset, which its finished runs have opened too.

    Raises:
        StoreError: see :func:`source_of`.
    """
    source = source_of(study, cell, registry)
    return splits.open_test(source, study.protocol.on(cell.dataset))
