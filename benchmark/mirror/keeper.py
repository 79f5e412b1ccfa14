"""Runs a command, and ends it and all that it started once whoever asked for it is gone.

A program of its own, which imports nothing of this project: its standard input is a pipe that
nobody writes to. The pipe ends with the process that holds its other end, also where that one is
killed, and then the whole process group is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def _end_group() -> None:
    os.killpg(0, signal.SIGKILL)  # this process too


def _wait_for_the_pipe() -> None:
    sys.stdin.buffer.read()
    _end_group()


def main() -> None:
    """Run the command in the arguments, as the leader of a process group."""
    threading.Thread(target=_wait_for_the_pipe, daemon=True).start()
    subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)
    _end_group()


if __name__ == "__main__":
    main()
