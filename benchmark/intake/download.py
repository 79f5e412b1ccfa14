"""Files from the web: continued where they broke off, verified, dead links explained."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO

from benchmark.intake.unpack import OnProgress, quiet
from protocols.datasets._official import Address
from protocols.errors import DataError

ATTEMPTS = 5
_BLOCK = 1 << 20
_AGENT = {"User-Agent": "dml-reality-bench", "Accept-Encoding": "identity"}


class _BrokeOff(Exception):
    """The connection ended before the file did."""


_PASSING = (
    _BrokeOff,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)


def fetch(
    address: Address,
    folder: Path,
    by_hand: str,
    progress: OnProgress = quiet,
    timeout_s: float = 60.0,
) -> Path:
    """Return the file of ``address`` in ``folder``, downloading what is missing of it.

    A file that is there is taken if it has the checksum, and else goes on as an unfinished one.
    Unfinished files end in ``.part``; the next call goes on where they end, if the server
    allows it and the file there is still the same.

    Args:
        address: where from, and the checksum.
        folder: where to; made if need be.
        by_hand: told when no address works: where a person gets the file.
        progress: told the bytes done and in all.
        timeout_s: seconds without a byte after which a server counts as dead.

    Raises:
        DataError: no address works, the connection keeps breaking, or the checksum differs.
    """
    target = folder / address.file
    try:
        if target.is_file():
            if _checked(target, address.checksum) == address.checksum:
                return target
            target.replace(_part_of(target))  # cut off, perhaps: the download goes on where it ends
        folder.mkdir(parents=True, exist_ok=True)
        part = _download(address, target, by_hand, progress, timeout_s)
        met = _checked(part, address.checksum)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{target}: cannot be read or written ({reason})") from error
    if met != address.checksum:
        _forget(part)
        raise DataError(
            f"{address.file}: met {met}, expected {address.checksum}; the download was thrown "
            f"away. Run the same command again, or get it by hand: {by_hand}"
        )
    part.replace(target)
    _forget(part)
    return target


def _download(
    address: Address, target: Path, by_hand: str, progress: OnProgress, timeout_s: float
) -> Path:
    """Return the complete ``.part`` file, from the first address that works."""
    part = _part_of(target)
    dead = []
    for url in address.urls:
        fruitless = 0
        while fruitless < ATTEMPTS:
            before = _size(part)
            try:
                _continue(url, part, progress, timeout_s)
                return part
            except _PASSING as error:
                reason = f"broke off: {str(error) or type(error).__name__}"
            except (urllib.error.URLError, ValueError) as error:
                reason = str(error)
                if not _may_pass(error):
                    break
            fruitless = 0 if _size(part) > before else fruitless + 1
        dead.append(f"{url}: {reason}")
    kept = f" {_size(part):,} bytes are kept in {part}." if _size(part) else ""
    raise DataError(
        f"{address.file} cannot be downloaded ({'; '.join(dead)}).{kept} Run the same command "
        f"again to go on, or get it by hand: {by_hand}"
    )


def _may_pass(error: Exception) -> bool:
    """Say whether another attempt may help: not with a link that is gone."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 416, 429)
    return isinstance(getattr(error, "reason", None), TimeoutError | ConnectionResetError)


def _continue(url: str, part: Path, progress: OnProgress, timeout_s: float) -> None:
    """Download what is missing of ``part``; raise if it is still not complete then."""
    if not url.startswith(("https://", "http://", "ftp://")):
        raise ValueError("only https, http and ftp are downloaded from")
    have = _size(part)
    tag = _tag_file(part).read_text("ascii") if _tag_file(part).is_file() else ""
    headers = _AGENT | ({"Range": f"bytes={have}-"} if have else {})
    headers |= {"If-Range": tag} if have and tag else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the server says that nothing is missing
        if error.code == 416:  # what we have is no beginning of that file: start over
            _forget(part)
        raise
    with response:
        if "html" in response.headers.get("Content-Type", ""):
            raise ValueError("a web page is there in place of the file")
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if getattr(response, "status", None) == 206 and not goes_on:
            _forget(part)
            raise _BrokeOff("the server sent another part than asked for")
        have = have if goes_on else 0
        length = response.headers.get("Content-Length")
        with part.open("ab" if goes_on else "wb") as out:
            _tag_file(part).write_text(_tag(response.headers), "ascii", "replace")
            total = have + int(length) if length else 0
            _copy(response, out, have, total, f"downloading {part.stem}", progress)


def _tag(headers: Message) -> str:
    """Return what a server tells versions of a file apart by; weak tags do not count."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _copy(
    source: IO[bytes], out: IO[bytes], done: int, total: int, what: str, progress: OnProgress
) -> None:
    while block := source.read(_BLOCK):
        out.write(block)
        done += len(block)
        progress(what, done, total)
    if done < total:
        raise _BrokeOff(f"after {done:,} of {total:,} bytes")


def _checked(path: Path, checksum: str) -> str:
    """Return the checksum of a file, of the kind of ``checksum``; empty where none is known."""
    if not checksum:
        return ""
    kind = checksum.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)
