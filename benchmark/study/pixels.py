"""Decoded pixels: every image once, shorter side resized, in one memory-mapped file."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.study.datasets import identity
from protocols.dataset import Images, Sizes
from protocols.errors import StoreError

AHEAD = 1 << 17  # bytes of an image; smaller ones come whole with their first page


@dataclass(frozen=True)
class PixelStore:
    """Images of any size, one after the other in a flat array of bytes.

    Attributes:
        flat: all pixels, (total,) uint8, usually memory-mapped.
        sizes: (N, 2) height and width.
        starts: (N,) where each image begins.
        mapped: the file behind ``flat``, where the system can be told what is read next.
    """

    flat: NDArray[np.uint8]
    sizes: Sizes
    starts: NDArray[np.int64]
    mapped: mmap.mmap | None = None

    def batch(self, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Sizes]:
        """Return images (B, H, W, 3), padded at bottom and right, and their sizes (B, 2)."""
        sizes = self.sizes[index]
        self._ask_for(self.starts[index].tolist(), (sizes.prod(axis=1) * 3).tolist())
        height, width = sizes.max(axis=0)
        alike = bool((sizes == sizes[0]).all())  # one shape: nothing to pad
        pixels = (np.empty if alike else np.zeros)((len(index), height, width, 3), np.uint8)
        for row, (h, w) in enumerate(sizes.tolist()):
            start = self.starts[index[row]]
            pixels[row, :h, :w] = self.flat[start : start + h * w * 3].reshape(h, w, 3)
        return pixels, sizes

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return image ``number`` (H, W, 3), a view of the store."""
        height, width = self.sizes[number].tolist()
        start = self.starts[number]
        return self.flat[start : start + height * width * 3].reshape(height, width, 3)

    def _ask_for(self, starts: list[int], lengths: list[int]) -> None:
        """Let the system read all large images at once, not each when its first page is missed."""
        if self.mapped is None:
            return
        for start, length in zip(starts, lengths, strict=True):
            if length >= AHEAD:
                page = start // mmap.PAGESIZE * mmap.PAGESIZE
                self.mapped.madvise(mmap.MADV_WILLNEED, page, start + length - page)


def open_store(key: str, resize_px: int, folder: Path, images: Callable[[], Images]) -> PixelStore:
    """Return the decoded images of one dataset, decoding them first if need be.

    Args:
        key: what identifies the images: the dataset's name and digest.
        resize_px: shorter side of the stored images; smaller images are enlarged.
        folder: where stores are kept; safe for several processes.
        images: gives the images, called only when they must be decoded.

    Raises:
        DataError: an image cannot be read.
        StoreError: the store cannot be written.
    """
    path = store_path(folder, key, resize_px)
    if not _complete(path):
        _build(path, images(), resize_px)
    sizes = np.load(sizes_path(path))
    lengths = sizes.prod(axis=1) * 3
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), int(lengths.sum()), access=mmap.ACCESS_READ)
    flat = np.frombuffer(mapped, np.uint8)
    return PixelStore(flat, sizes, starts, mapped if hasattr(mapped, "madvise") else None)


def store_key(dataset: str, digest: str) -> str:
    """Return what names the store of the dataset that tables call ``dataset``."""
    return re.sub(r"[^\w.-]+", "-", identity(dataset)) + f"-{digest[:12]}"


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


def _complete(path: Path) -> bool:
    """Return whether the store is there whole; what a full disk or a crash cut is decoded anew."""
    try:
        return path.stat().st_size == int(np.load(sizes_path(path)).prod(axis=1).sum()) * 3
    except (OSError, ValueError, EOFError):
        return False


def _build(path: Path, images: Images, resize_px: int) -> None:
    """Write pixels and sizes; the pixel file appears last, complete, under its name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    sizes = np.empty((len(images), 2), np.int64)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for index in range(len(images)):
                pixels = resize(images.read(index), resize_px)
                sizes[index] = pixels.shape[:2]
                file.write(pixels.tobytes())
        sizes_part = part.with_suffix(".npy")
        np.save(sizes_part, sizes)
        sizes_part.replace(sizes_path(path))
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write the decoded images to {path}: {error.strerror}. Make room or write "
            "access and run the same command again"
        ) from error
    finally:
        part.unlink(missing_ok=True)
