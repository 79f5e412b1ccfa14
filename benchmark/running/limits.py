"""When a run is to end before its work: signals of a person or a cluster, and a limit of hours.

Each of them ends it the same way, wherever it stands: workers are killed, what is recorded stays,
and each training goes on from its last checkpoint when the same command is run again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from benchmark.running.setup import Asked
from benchmark.study import grid, partials
from protocols.errors import InvalidInputError

HOUR_S = 3600.0
# Before the limit: workers end, and what is left is counted and said. Of a short limit it is half.
RESERVE_S, RESERVE_SHARE = 30.0, 0.5
SOON_S = 1e-3  # a timer of 0 would never ring


# What has asked the work to end, and whether its time was up, first things first. Signals are the
# process's, so this is too.
_asked: list[tuple[str, bool]] = []


class Stopped(KeyboardInterrupt):
    """A run is to end: a Ctrl-C that says who asked, and whether its time was up."""

    def __init__(self, why: str, *, time_up: bool = False) -> None:
        super().__init__(why)
        self.why, self.time_up = why, time_up


def start_counting() -> None:
    """Start the process in which multiprocessing counts, deaf to what a cluster sends to all.

    Killed, it would be started again, and complain of what it does not know. Called before
    anything else can have started it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stoppable(
    max_hours: float | None, started: float, ended: Callable[[Stopped], None] = lambda stop: None
) -> Iterator[None]:
    """Raise :class:`Stopped` in this thread on a signal, or shortly before the time is up.

    SIGINT is set too: a script that starts this in the background has it ignored, and would then
    have no gentle way to stop it. SIGHUP stays ignored where it is, as ``nohup`` asks.

    Once it was raised, further signals of a cluster change nothing: it may send several, and what
    was begun is to be ended. A further Ctrl-C still interrupts. Where Python swallowed it, as it
    does in an object's end, :func:`raise_if_stopped` raises it again.

    Args:
        max_hours: how long all may last, None for no limit.
        started: since when, on the monotonic clock.
        ended: called with what stopped the work, while further signals still change nothing.

    Raises:
        InvalidInputError: there is a limit, and this is not the main thread, which alone has it.
    """
    if threading.current_thread() is not threading.main_thread():
        if max_hours is not None:
            raise InvalidInputError("--max-hours works in the main thread only")
        yield
        return
    asked = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}
    asked[signal.SIGUSR1] = "stopped by SIGUSR1"
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asked[signal.SIGHUP] = "stopped by SIGHUP"

    def stop(number: int, _: FrameType | None) -> None:
        for other in asked.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        time_up = number == signal.SIGALRM
        why = f"stopped by --max-hours {max_hours:g}" if time_up else asked[signal.Signals(number)]
        _asked.append((why, time_up))
        raise Stopped(why, time_up=time_up)

    numbers = [*asked, signal.SIGALRM] if max_hours is not None else [*asked]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        if max_hours is not None:
            left = started + seconds_of(max_hours) - time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, max(left, SOON_S))
        yield
    except Stopped as stopped:
        ended(stopped)
        raise
    finally:
        _asked.clear()
        if max_hours is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_stopped() -> None:
    """Raise :class:`Stopped` if the work is to end and goes on because that was swallowed."""
    if _asked:
        why, time_up = _asked[0]
        raise Stopped(why, time_up=time_up)


def seconds_of(max_hours: float) -> float:
    """Return after how many seconds a run ends, so that it is over when the hours are."""
    limit = max_hours * HOUR_S
    return limit - min(RESERVE_S, RESERVE_SHARE * limit)


def left(asked: Asked, stop: Stopped) -> str:
    """Return who stopped a run, what is left of it and how it goes on; the folder is locked."""
    jobs = sum(item.jobs_left for item in grid.progress_of(asked.study, asked.keys))
    begun = partials.tidy(asked.study)
    what = (
        f"{jobs} job{'s' * (jobs != 1)} left, {begun} of them begun" if jobs else "all is trained"
    )
    return f"{stop.why}; {what}; run the same command again to go on"
