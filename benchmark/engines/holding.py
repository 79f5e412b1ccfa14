"""Who holds an output folder: one coordinator at a time."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from protocols.errors import StoreError

# What a file system answers that has no locks: NFS without its lock service, Lustre without flock.
REFUSED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
HOLDER = ".holder"


@contextmanager
def lock(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder: a second coordinator is refused, a dead one's lock is gone with it.

    Where the file system has no locks, a file that names host and process stands for one.

    Args:
        out: the folder.
        say: prints a line.

    Raises:
        StoreError: another coordinator is at work there, or nothing can be written there.
    """
    import fcntl  # only now, because Windows has none and still reads tables

    with _opened(out / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another run is at work in {out}. Wait for it, stop it, or choose another --out"
            ) from None
        except OSError as error:
            if error.errno not in REFUSED:
                raise StoreError(f"cannot lock {file.name}: {error.strerror}") from error
            holder = out / HOLDER
            say(
                f"the file system of {out} has no locks ({error.strerror}): {holder.name} says "
                "who is at work there"
            )
            with _named(holder):
                yield
        else:
            yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("w")
    except OSError as error:
        raise StoreError(
            f"cannot lock {path.parent}: {path} cannot be written ({error.strerror}). Make the "
            "folder writable, remove what is in that place, or choose another --out"
        ) from error


@contextmanager
def _named(holder: Path) -> Iterator[None]:
    """Hold ``holder``, a file that only one process can make; take over a dead one's."""
    mine = f"{socket.gethostname()} {os.getpid()}"
    if not _made(holder, mine):
        _take_away(holder)
        if not _made(holder, mine):
            raise StoreError(f"another run has just begun in {holder.parent}. Wait for it")
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)


def _made(holder: Path, words: str) -> bool:
    """Return whether ``holder`` was made, with its content; False if it is there."""
    part = holder.with_name(f"{holder.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        part.write_text(words)
        os.link(part, holder)  # fails if it is there, and never shows half of the content
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreError(
            f"cannot make {holder}: {error.strerror}. Choose another --out, on a file system that "
            "has locks"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return True


def _take_away(holder: Path) -> None:
    """Remove the file of a dead holder, and no other one.

    Two processes may find the same dead holder, and the second must not remove the file that the
    first has made since. So it is renamed, which one of them does, and then looked at: what is
    not the dead one's goes back.
    """
    words = _words(holder)
    if words is None:
        return
    _check_gone(holder, words)
    away = holder.with_name(f"{holder.name}.{socket.gethostname()}.{os.getpid()}.gone")
    try:
        holder.rename(away)
    except FileNotFoundError:
        return
    try:
        if _words(away) != words:
            with suppress(FileExistsError):
                os.link(away, holder)
            raise StoreError(f"another run has just begun in {holder.parent}. Wait for it")
    finally:
        away.unlink(missing_ok=True)


def _words(holder: Path) -> str | None:
    """Return what a holder's file says, None if it is gone."""
    try:
        return holder.read_text()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{holder} names nobody. Remove it if no run is at work there") from error


def _check_gone(holder: Path, words: str) -> None:
    """Raise StoreError unless the process that a holder's file names is known to be dead."""
    try:
        host, number = words.rsplit(" ", 1)
        process = int(number)
    except ValueError as error:
        raise StoreError(f"{holder} names nobody. Remove it if no run is at work there") from error
    if host == socket.gethostname():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass  # alive, and another user's
        else:
            if process == os.getpid():  # left by a dead one that had this number
                return
    raise StoreError(
        f"process {process} on {host} is at work in {holder.parent}. Wait for it, stop it, or "
        f"choose another --out; if it is dead, remove {holder}"
    )
