"""``python -m benchmark``."""

import atexit
import os
import sys
import threading
from typing import NoReturn

from benchmark.cli import main


def leave(code: int) -> NoReturn:
    """End the process with ``code``, without taking its modules apart.

    What is registered for the end runs, threads are waited for, and what was printed is written.
    The interpreter would then look through all of torch for a second; told not to
    (``gc.freeze``), it leaves alive what C++ libraries then report as leaked, line by line.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # closed, or nowhere to write: the interpreter says so
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
