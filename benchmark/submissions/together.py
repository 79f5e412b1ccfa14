"""What rows of one dataset have in common: its images, its queries and those left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from benchmark.submissions.kept import Kept
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell

Problem = tuple[str, str]  # message, path below the results folder
_Said = tuple[object, str, str]  # what is compared, the same in words, place


def faults(rows: Sequence[Kept], current: Iterable[Kept]) -> Iterator[Problem]:
    """Yield rows that speak of other test images than most rows of their dataset (check 8).

    Args:
        rows: all of them: those on the same content of a dataset have one test set.
        current: those of protocols as they are now, which must have the same content too.
    """
    contents: dict[str, list[_Said]] = defaultdict(list)
    sizes: dict[tuple[str, str], list[_Said]] = defaultdict(list)
    labels: dict[tuple[str, str], list[_Said]] = defaultdict(list)
    for row in (kept.row for kept in current):
        if row.cell:
            content = row.cell.made_of.dataset_digest
            contents[row.cell.dataset].append((content, f"content {content[:12]}", row.place))
    for kept in rows:
        cell = kept.row.cell
        for table, found in ((sizes, _size(kept.row)), (labels, _labels(kept))):
            if cell and found:
                table[cell.dataset, cell.made_of.dataset_digest].append((*found, kept.row.place))
    for kept in rows:
        yield from _further(kept)
    for dataset, those in contents.items():
        yield from _odd(dataset, those)
    for table in (sizes, labels):
        for (dataset, _), those in table.items():
            yield from _odd(dataset, those)


def _further(kept: Kept) -> Iterator[Problem]:
    """Yield further searches with another test set than their row's; they have no say in a vote."""
    for search in kept.further:
        for found, usual in (
            (_size(search.row), _size(kept.row)),
            (_labels(search), _labels(kept)),
        ):
            if found and usual and found[0] != usual[0]:
                yield f"has {found[1]}, its row {usual[1]}", f"{search.row.place}/{Cell.file}"


def _size(row: SubmittedRow) -> tuple[object, str] | None:
    """Return how many images and queries a row's first run speaks of, to compare and in words."""
    for _, run in sorted(row.runs.items()):
        if run.embeddings_shape:
            met = run.embeddings_shape[0], run.excluded
            return met, f"{met[0]} test images, {met[1]} queries left out"
    return None


def _labels(kept: Kept) -> tuple[object, str] | None:
    """Return digests of the labels and queries of a row's runs, None where all diverged."""
    met = kept.test_sets
    return (tuple(met), f"labels {' and '.join(d[:12] for d in met)}") if met else None


def _odd(dataset: str, those: list[_Said]) -> Iterator[Problem]:
    """Yield those that differ from most."""
    ((most, _),) = Counter(key for key, _, _ in those).most_common(1)
    usual = next(said for key, said, _ in those if key == most)
    for key, said, place in those:
        if key != most:
            yield f"{dataset} has {said}, in other rows {usual}", f"{place}/cell.json"
