"""Standard output and error that never stop work: what cannot be written is not worth a study.

Python's own streams raise where a reader has gone (``| head -1``), a disk is full, a stream was
closed (``>&-``) or an encoding lacks a sign. A process that calls :func:`open_streams` first thing
prints what can be printed, in plain letters where the encoding has no others, and drops the rest;
its exit code tells of its work alone.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Variables that ask libraries for colours and cursor movements also where no terminal reads: with
# any value, and with the value 1 (their 0 asks for less than a terminal can do, and is kept).
FORCING = ("FORCE_COLOR", "CLICOLOR_FORCE")
FORCING_BY_1 = ("PYTHON_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
# What the program prints beyond ASCII, and how it is written where an encoding lacks it. As wide
# as the sign where a table has it; of "± 1.2" the space is left out for that, see _in_plain.
PLAIN = {
    "€": "EUR",
    "±": "+-",
    "▲": "^",
    "▼": "v",
    "†": "#",
    "‡": "##",
    "─": "-",
    "–": "-",
    "−": "-",
    "·": "*",
    "…": "...",
    "√": "sqrt",
    "²": "^2",
    "ρ": "rho",
    "≠": "!",
}
# Characters that steer a terminal; a file or a program at the other end has no use for them.
_STEERING = {n: repr(chr(n))[1:-1] for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n"}
_HALF_WIDTH = re.compile(r"± (?=\d)")
_ERRORS = "benchmark.plain"


def open_streams(encoding: str | None = None) -> None:
    """Make printing safe in this process, from now on and for what it starts.

    Standard input, output and error that are closed become the null device: the next file to be
    opened would take their place, and what is printed would land in it. Output that is no terminal
    gets no colours and no carriage returns, whatever the environment's variables ask for.

    Args:
        encoding: of output and error; None for what Python chose, from ``PYTHONIOENCODING`` or
            the locale.
    """
    _fill_closed()
    for name in (*FORCING, *(name for name in FORCING_BY_1 if os.environ.get(name) == "1")):
        os.environ.pop(name, None)
    kept = _encoding_of(sys.stdout), _encoding_of(sys.stderr)
    sys.stdout, sys.stderr = (stream_to(n, encoding or own) for n, own in enumerate(kept, 1))


def send_output_to(log: str) -> None:
    """Send this process' output to ``log``.

    Raises:
        OSError: it cannot be opened; the output goes nowhere then, least of all to a terminal.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK  # a pipe would be waited for
    try:
        output = os.open(log, flags, 0o644)
    except OSError:
        output = os.open(os.devnull, os.O_WRONLY)
        raise
    finally:
        os.dup2(output, 1)
        os.dup2(output, 2)


class _Outlet(io.FileIO):
    """A file descriptor that takes all it is given, and drops what cannot be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of ``data`` and return how many bytes are done with."""
        try:
            # Another program may have made a shared terminal or pipe non-blocking: None is "wait".
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError:
            return memoryview(data).nbytes
        return written


class _Plain(io.TextIOWrapper):
    """Text for what is no terminal: in lines, and nothing in it steers one."""

    def write(self, text: str, /) -> int:
        """Write ``text`` and return its length."""
        super().write(text.translate(_STEERING))
        return len(text)


def stream_to(number: int, encoding: str) -> io.TextIOWrapper:
    """Return a text stream to a file descriptor; a line is written as soon as it is whole."""
    raw = io.BufferedWriter(_Outlet(number, "w", closefd=False))
    kind = io.TextIOWrapper if raw.isatty() else _Plain
    return kind(raw, encoding, _ERRORS, line_buffering=True)


def _encoding_of(stream: TextIO | None) -> str:
    """Return the encoding of a stream that is given up; what it holds is written."""
    if stream is None:  # closed when Python started
        return "utf-8"
    with suppress(OSError, ValueError):
        stream.flush()
    return stream.encoding or "utf-8"


def _fill_closed() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """Return what is written for the first sign that could not be, and where to go on.

    What has no form in :data:`PLAIN` is written as its code point, and a byte of a file name that
    is no text as that byte.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":  # how Python keeps a byte that it could not decode
        plain = f"\\x{ord(sign) - 0xDC00:02x}"
    else:
        plain = PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")
    of_a_number = _HALF_WIDTH.match(error.object, error.start)
    return plain, of_a_number.end() if of_a_number else error.start + 1


codecs.register_error(_ERRORS, _in_plain)
