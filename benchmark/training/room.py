"""Whether there is room for the decoded images, asked before the first one is decoded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.study.pixels import complete
from benchmark.training.splits import DataSource, count_images
from protocols.errors import StoreError
from protocols.protocol import Protocol

LARGE_BYTES = 1_000_000_000  # whose decoding takes long enough to be announced


@dataclass(frozen=True)
class Undecoded:
    """A dataset's images that are still to be decoded.

    Attributes:
        title: what the dataset is called.
        folder: where the pixels will lie.
        images: how many there are.
        least: bytes that they take there at least: if all are square.
    """

    title: str
    folder: Path
    images: int
    least: int


def undecoded(sources: Iterable[DataSource], protocol: Protocol) -> list[Undecoded]:
    """Return the datasets whose images do not lie decoded in their folder."""
    found = []
    for source in sources:
        path = source.files(protocol)[0]
        if not complete(path):
            images = count_images(source)
            least = 3 * images * protocol.image.resize_px**2
            found.append(Undecoded(source.title or source.name, path.parent, images, least))
    return found


def check_room(wanted: Iterable[Undecoded]) -> None:
    """Raise StoreError where a folder has less room than its images take at least."""
    needed: dict[Path, int] = {}
    for each in wanted:
        needed[each.folder] = needed.get(each.folder, 0) + each.least
    for folder, least in needed.items():
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(there).free
        if free < least:
            raise StoreError(
                f"the decoded images take {gigabytes(least)} at least, and {folder} has "
                f"{gigabytes(free)} free. Make room, or name another place: with --out, for plan "
                "with TMPDIR"
            )


def gigabytes(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e9:.1f} GB"
