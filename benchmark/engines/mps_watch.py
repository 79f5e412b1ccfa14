"""Runs NVIDIA's MPS daemon while the process lives that started this one, and leaves none of it.

Started as a script, with the standard library alone, by :mod:`benchmark.engines.mps`. Standard
input is a pipe whose other end the coordinator holds: it ends when the coordinator lets go of it,
and when the coordinator is killed. All that the daemon starts ends with it, however it started it.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ENDED = "ended"  # in the folder: the daemon is gone before anyone asked it to end
GRACE_S = 5.0  # for a daemon that waits for its last clients
_POLL_S = 0.1
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


def main(control: str, folder: Path) -> None:
    """Run ``control`` as a daemon until standard input ends, then remove ``folder``."""
    # What a cluster sends to all processes of a job is for the coordinator to answer. The daemon
    # and its servers inherit that these are ignored: they are ended by its socket, or killed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # A process whose parent is gone becomes this one's child, so that none gets out of sight.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    daemon = subprocess.Popen([control, "-f"], stdin=subprocess.DEVNULL)
    while not select.select([sys.stdin], [], [], _POLL_S)[0]:
        if daemon.poll() is not None:
            (folder / ENDED).touch()
    _end(daemon, control)
    shutil.rmtree(folder, ignore_errors=True)


def _end(daemon: subprocess.Popen[bytes], control: str) -> None:
    """Ask the daemon to end, give it and its servers a while, then kill what is left."""
    deadline = time.monotonic() + GRACE_S
    if daemon.poll() is None:
        with suppress(OSError, subprocess.TimeoutExpired):  # killed below if it does not answer
            subprocess.run([control], input=b"quit\n", timeout=GRACE_S, check=False)
    while (left := _children()) and time.monotonic() < deadline + GRACE_S:
        for child in left:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
        time.sleep(_POLL_S / 10)


def _children() -> list[int]:
    """Return the processes that this one has to wait for, ended ones included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # number (name) state parent ...; a name may hold anything
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.parent.name))
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
