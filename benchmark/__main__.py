"""``python -m benchmark``."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from benchmark.cli import main
from benchmark.streams import open_streams


def leave(code: int) -> NoReturn:
    """End the process with ``code``, without taking its modules apart.

    What is registered for the end runs, threads are waited for, and what was printed is written.
    The interpreter would then look through all of torch for a second; told not to
    (``gc.freeze``), it leaves alive what C++ libraries then report as leaked, line by line.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # closed by a plugin
            stream.flush()
    os._exit(code)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the signals that ask a command to end do what Ctrl-C does.

    What is ignored stays so, as ``nohup`` asks. Further signals change nothing: a cluster may send
    several. Commands that say more of themselves set their own handlers over these. A process that
    is forked ends by its signal, as it would without this.
    """
    here = os.getpid()
    names = [name for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (getattr(signal, n) for n in names)}
    numbers = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != here:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)
    yield
    for number in numbers:
        if signal.getsignal(number) is stop:  # else it was stopped
            signal.signal(number, before[number])


def start() -> NoReturn:
    """Run the command line; the console script ``dml-benchmark`` starts here too."""
    open_streams()
    with interruptible():
        try:
            code = main()
        except KeyboardInterrupt:  # before its first line, or after its last
            code = 128 + signal.SIGINT
    leave(code)


if __name__ == "__main__":
    start()
