"""Archives of unknown origin to files, with bounds: nothing is written outside the target.

Refused: absolute paths, ``..``, links of either kind, devices, the same name twice, more files
or bytes than the bounds, whether the archive says so or not. What was written before a refusal
stays in the target; the caller unpacks into a folder that he throws away then.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from protocols.errors import DataError
from protocols.manifest import is_inside

OnProgress = Callable[[str, int, int], None]  # what, done, of how many
_BLOCK = 1 << 20
_LARGEST_HEADERS = 1 << 20  # of one member of a tar: names, times and what a system adds
# tarfile looks for a number from each of its digits on, so its time grows with their square.
_MANY_DIGITS = re.compile(rb"\d{300}")
_OPENERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
)


@dataclass(frozen=True)
class Limits:
    """Bounds on what comes out of one archive.

    Attributes:
        members: files and folders.
        total_bytes: all files together.
        ratio: all files together, per byte of the archive, beyond ``free_bytes``: images
            hardly compress, a bomb does.
        free_bytes: what any archive may hold.
    """

    members: int = 1_000_000
    total_bytes: int = 64 << 30
    ratio: int = 20
    free_bytes: int = 256 << 20

    def bytes_of(self, archive: Path) -> int:
        """Return how many bytes may come out of ``archive``."""
        return min(self.total_bytes, self.free_bytes + self.ratio * archive.stat().st_size)


LIMITS = Limits()


def quiet(what: str, done: int, total: int) -> None:
    """Report nothing."""


def unpack(
    archive: Path, target: Path, limits: Limits = LIMITS, progress: OnProgress = quiet
) -> None:
    """Unpack a zip or (compressed) tar into the folder ``target``, which is made.

    Raises:
        DataError: not an archive, damaged, cut off, protected by a password, or beyond the bounds.
    """
    with _telling(archive), archive.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        target.mkdir(parents=True, exist_ok=True)
        room = _Room(archive, target, limits, progress, file)
        if head.startswith(b"PK"):
            _unzip(file, room)
        elif head[257:262] == b"ustar":
            _untar(file, room)
        else:
            opener = next((o for magic, o in _OPENERS.items() if head.startswith(magic)), None)
            if opener is None:
                raise _refused(archive, f"neither zip nor tar, it begins with {head[:16]!r}")
            with opener(file) as plain:
                _untar(plain, room)


@dataclass
class _Room:
    """What one archive has taken so far of what it may take."""

    archive: Path
    target: Path
    limits: Limits
    progress: OnProgress
    file: BinaryIO
    members: int = 0
    announced: int = 0
    written: int = 0
    names: set[str] = field(default_factory=set)

    def admit(self, name: str, size: int, odd: str = "") -> Path:
        """Count a member in and return where it goes; refuse it before a byte is written."""
        self.members += 1
        self.announced += size
        clean = name.rstrip("/") or name
        path = self.target / clean
        if not is_inside(clean) and clean != ".":
            raise _refused(self.archive, f"member {name!r} points out of it")
        if odd:
            raise _refused(self.archive, f"member {name!r} is {odd}")
        if str(path) in self.names and not name.endswith("/"):
            raise _refused(self.archive, f"member {name!r} is in it twice")
        self.names.add(str(path))
        if self.members > self.limits.members:
            raise _refused(self.archive, f"more than {self.limits.members:,} members")
        if self.announced > (bound := self.limits.bytes_of(self.archive)):
            raise _refused(self.archive, f"unpacks to more than {bound:,} bytes, the bound")
        return path

    def check_disk(self) -> None:
        """Refuse if what is announced does not fit on the disk."""
        free = shutil.disk_usage(self.target).free
        if self.announced - self.written > free:
            needs = f"needs {self.announced:,} bytes, {free:,} are free in {self.target}"
            raise DataError(f"{self.archive}: {needs}. Make room and run the same command again")

    def write(self, stream: IO[bytes], path: Path, size: int) -> None:
        """Copy a member of ``size`` bytes to ``path``, neither more nor less."""
        path.parent.mkdir(parents=True, exist_ok=True)
        left = size
        with path.open("xb") as out:
            while block := stream.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                out.write(block)
        if left:
            raise _refused(self.archive, f"{path.name!r} is not of the size that it announces")
        self.written += size
        whole = self.archive.stat().st_size
        self.progress(f"unpacking {self.archive.name}", min(self.file.tell(), whole), whole)


def _unzip(file: BinaryIO, room: _Room) -> None:
    with zipfile.ZipFile(file) as content:
        jobs = []
        for info in content.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            odd = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
            if info.flag_bits & 1:
                odd = "protected by a password: unpack it by hand and give the folder"
            path = room.admit(info.filename, info.file_size, odd)
            jobs.append((info, path))
        room.check_disk()
        for info, path in jobs:
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with content.open(info) as stream:
                room.write(stream, path, info.file_size)


def _untar(file: IO[bytes], room: _Room) -> None:
    stream = _Bounded(file, room)
    with _reading_headers(stream):  # of the first member
        opened = tarfile.TarFile(fileobj=cast(Any, stream), mode="r", errors="surrogateescape")
    with opened as content:
        while (member := _next_member(content, stream)) is not None:
            odd = "" if member.isreg() or member.isdir() else "a link or a device"
            odd = "a sparse file" if member.issparse() else odd
            path = room.admit(member.name + "/" * member.isdir(), member.size, odd)
            room.check_disk()
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif (source := content.extractfile(member)) is not None:
                room.write(source, path, member.size)
            cast(Any, content).members.clear()  # tarfile would keep every member in memory
    # After the last member there must be nothing but zeros. They are read to the end, because
    # only there a compressed stream checks its checksum.
    rest = iter(lambda: stream.read(_BLOCK), b"")
    if any(block.strip(b"\0") for block in chain([stream.last], rest)):
        raise _refused(room.archive, "damaged: there is more after its last readable member")


def _next_member(content: tarfile.TarFile, stream: _Bounded) -> tarfile.TarInfo | None:
    """Return the next member; None after the last."""
    with _reading_headers(stream):
        member = content.next()
    if member is not None and member.size < 0:
        raise tarfile.ReadError(f"member {member.name!r} of {member.size} bytes")
    return member


@contextmanager
def _reading_headers(stream: _Bounded) -> Iterator[None]:
    """Bound what is read of ``stream`` meanwhile: the headers of one member.

    Raises:
        DataError: they are longer than any member needs.
        tarfile.ReadError: they do not say what they should.
    """
    stream.headers_left = _LARGEST_HEADERS
    try:
        yield
    except ValueError as error:  # a number or text in them is none
        raise tarfile.ReadError(f"a header of a member: {error}") from error
    finally:
        stream.headers_left = None


class _Bounded:
    """A stream that refuses to give more than an archive may hold.

    Attributes:
        last: the bytes that were read last.
        headers_left: bytes of headers that the next member may still have; None while its
            content is read.
    """

    def __init__(self, stream: IO[bytes], room: _Room) -> None:
        self.stream, self.room = stream, room
        headers = 4096 * room.limits.members
        self.left = room.limits.bytes_of(room.archive) + headers
        self.last = b""
        self.headers_left: int | None = None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes."""
        if self.headers_left is not None:
            if not 0 <= size <= self.headers_left:
                what = f"a member has headers of more than {_LARGEST_HEADERS:,} bytes"
                raise _refused(self.room.archive, what)
            self.headers_left -= size
        self.last = self.stream.read(size)
        if self.headers_left is not None and _MANY_DIGITS.search(self.last):
            raise _refused(self.room.archive, "a header with a number of more than 300 digits")
        self.left -= len(self.last)
        if self.left < 0:
            raise _refused(self.room.archive, "unpacks to more bytes than the bound")
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to ``offset``."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Return where the stream is."""
        return self.stream.tell()


@contextmanager
def _telling(archive: Path) -> Iterator[None]:
    """Turn what damaged archives and full disks raise into a DataError."""
    try:
        yield
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
        reason = f"damaged or cut off at {archive.stat().st_size:,} bytes ({error})"
        raise DataError(f"{archive}: {reason}. Download it again") from error
    except OSError as error:
        raise DataError(
            f"{archive}: cannot be unpacked ({error.strerror or error}). Fix that and run "
            "the same command again"
        ) from error


def _refused(archive: Path, reason: str) -> DataError:
    return DataError(f"{archive}: not unpacked, {reason}")
