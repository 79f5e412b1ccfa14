"""Decoded pixels: every image once, shorter side resized, in one file."""

from __future__ import annotations

import hashlib
import io
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.study import checksums
from protocols.dataset import Images, Sizes
from protocols.errors import StoreError

# bytes from which on an image is asked for ahead; the system reads smaller ones at once
AHEAD = 1 << 17


class ReadFile:
    """A file that is open for reading by position, until nobody holds this object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)

    def read_into(self, target: NDArray[np.uint8], start: int) -> None:
        """Fill ``target``, a contiguous array, with the bytes from ``start`` on.

        Raises:
            StoreError: the file ends before that.
        """
        view, done = target.reshape(-1).data, 0
        while done < len(view):
            got = self._read(view[done:], start + done)
            if not got:
                raise StoreError(f"{self.path} ends too early. Run the same command again")
            done += got

    def _read(self, target: memoryview, start: int) -> int:
        """Read once; return how many bytes came."""
        if hasattr(os, "preadv"):
            return os.preadv(self.number, [target], start)
        with self.path.open("rb") as file:  # Windows cannot read by position
            file.seek(start)
            return file.readinto(target)

    def ask_for(self, start: int, length: int) -> None:
        """Let the system read this much ahead, where it can be told."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.number, start, length, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True)
class PixelStore:
    """Images of any size, read from a file one by one; nothing of it is held in memory.

    Attributes:
        file: the images, one after the other.
        sizes: (N, 2) height and width of the dataset's images; 0 where an image is sealed.
        starts: (N,) where in the file each image begins; -1 where it is sealed.
    """

    file: ReadFile
    sizes: Sizes
    starts: NDArray[np.int64]

    def batch(self, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Sizes]:
        """Return images (B, H, W, 3), padded at bottom and right, and their sizes (B, 2).

        Raises:
            StoreError: an image is sealed.
        """
        sizes = self.sizes[index]
        self._refuse_sealed(index)
        self._ask_for(self.starts[index].tolist(), (sizes.prod(axis=1) * 3).tolist())
        height, width = sizes.max(axis=0)
        alike = bool((sizes == sizes[0]).all())  # one shape: nothing to pad
        pixels = (np.empty if alike else np.zeros)((len(index), height, width, 3), np.uint8)
        for row, number in enumerate(index.tolist()):
            if alike:
                self.file.read_into(pixels[row], int(self.starts[number]))
            else:
                image = self.image(number)
                pixels[row, : image.shape[0], : image.shape[1]] = image
        return pixels, sizes

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return image ``number``, (H, W, 3).

        Raises:
            StoreError: it is sealed.
        """
        self._refuse_sealed(np.array([number]))
        pixels = np.empty((*self.sizes[number], 3), np.uint8)
        self.file.read_into(pixels, int(self.starts[number]))
        return pixels

    def _refuse_sealed(self, index: NDArray[np.int64]) -> None:
        sealed = index[self.starts[index] < 0]
        if len(sealed):
            raise StoreError(f"image {sealed[0]} is sealed: it belongs to no split that is open")

    def _ask_for(self, starts: list[int], lengths: list[int]) -> None:
        """Let the system read all large images at once, not each when its first page is missed."""
        for start, length in zip(starts, lengths, strict=True):
            if length >= AHEAD:
                self.file.ask_for(start, length)


def open_store(
    key: str,
    resize_px: int,
    folder: Path,
    images: Callable[[], Images],
    only: NDArray[np.int64] | None = None,
) -> PixelStore:
    """Return the decoded images of one dataset, decoding them first if need be.

    Args:
        key: what identifies the images: the dataset's name and digest.
        resize_px: shorter side of the stored images; smaller images are enlarged.
        folder: where stores are kept; safe for several processes.
        images: gives the images, called only when they must be decoded.
        only: which images may be read; all others are sealed. None for all.

    Raises:
        DataError: an image cannot be read.
        StoreError: the store cannot be written.
    """
    path = store_path(folder, key, resize_px)
    if not complete(path):
        _build(path, images(), resize_px)
    sizes = np.load(sizes_path(path))
    lengths = sizes.prod(axis=1) * 3
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    if only is not None:
        sealed = np.setdiff1d(np.arange(len(sizes)), only)
        sizes[sealed], starts[sealed] = 0, -1
    return PixelStore(ReadFile(path), sizes, starts)


def store_path(folder: Path, key: str, resize_px: int) -> Path:
    """Return the file of a dataset's pixels; :func:`sizes_path` gives the one beside it."""
    return folder / f"{key}-{resize_px}px.u8"


def sizes_path(path: Path) -> Path:
    """Return the file with the heights and widths of the images in the store at ``path``."""
    return path.with_suffix(".sizes.npy")


def resize(pixels: NDArray[np.uint8], shorter: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) image whose shorter side is ``shorter``, antialiased bilinear."""
    height, width, _ = pixels.shape
    if min(height, width) == shorter:
        return pixels
    # Like torchvision's Resize: the longer side is cut to a whole number, not rounded.
    ratio = max(height, width) / min(height, width)
    long = int(shorter * ratio)
    size = (shorter, long) if width <= height else (long, shorter)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def complete(path: Path) -> bool:
    """Return whether the store is there whole; what a full disk or a crash cut is decoded anew."""
    try:
        return path.stat().st_size == int(np.load(sizes_path(path)).prod(axis=1).sum()) * 3
    except (OSError, ValueError, EOFError):
        return False


def _build(path: Path, images: Images, resize_px: int) -> None:
    """Write pixels and sizes; the pixel file appears last, complete, under its name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    sizes, written = np.empty((len(images), 2), np.int64), hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for index, pixels in enumerate(_resized(images, resize_px)):
                sizes[index] = pixels.shape[:2]
                content = pixels.tobytes()
                file.write(content)
                written.update(content)
        buffer = io.BytesIO()
        np.save(buffer, sizes)
        checksums.write_signed(sizes_path(path), buffer.getvalue())
        checksums.sign(path, written.hexdigest())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write the decoded images to {path}: {error.strerror}. Make room or write "
            "access and run the same command again"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _resized(images: Images, resize_px: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the images in their order, resized; on all cores where they may be read so."""

    def one(index: int) -> NDArray[np.uint8]:
        return resize(images.read(index), resize_px)

    if not getattr(images, "concurrent", False):
        yield from map(one, range(len(images)))
        return
    threads = min(16, os.cpu_count() or 1)  # PIL decodes and resizes without Python's lock
    waiting: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for index in range(len(images)):
            waiting.append(pool.submit(one, index))
            if len(waiting) == 2 * threads:  # no more are held in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
