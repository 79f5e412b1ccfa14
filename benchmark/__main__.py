"""``python -m benchmark``."""

import atexit
import os
import sys
import threading
from contextlib import suppress
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


def start() -> NoReturn:
    """Run the command line; the console script ``dml-benchmark`` starts here too."""
    open_streams()
    leave(main())


if __name__ == "__main__":
    start()
