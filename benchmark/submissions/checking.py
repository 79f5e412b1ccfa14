"""Every row of results/ read and checked by itself, in two processes where there are many."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmark.submissions import leaderboard, read, replay
from benchmark.submissions.check import problems_of
from benchmark.submissions.git import History, Objects
from benchmark.submissions.kept import Kept, keep, without_values
from benchmark.submissions.provenance import Code
from protocols.errors import StoreError
from protocols.protocol import Protocol

MANY = 40  # rows; fewer are checked sooner than a second process is worth
_PROCESSES = 2


def checked(results: Path, history: History | None) -> list[Kept]:
    """Return the rows of a folder in order, each with its problems.

    Args:
        results: the folder.
        history: its git checkout; without one commits and code are not looked up.

    Raises:
        StoreError: a process of the check was ended from outside.
    """
    folders = read.row_folders(results)
    # Only Linux forks a process safely and for nothing; elsewhere a second one starts from zero.
    if len(folders) < MANY or sys.platform != "linux":
        return _checked(results, folders, history)
    shares = [folders[at::_PROCESSES] for at in range(_PROCESSES)]
    fork, others = multiprocessing.get_context("fork"), set(multiprocessing.active_children())
    with ProcessPoolExecutor(_PROCESSES, mp_context=fork) as pool:
        started = [pool.submit(_checked, results, share, history) for share in shares]
        try:
            found = [kept for process in started for kept in process.result()]
        except BrokenProcessPool as error:
            raise StoreError(
                "a process that checked rows was ended from outside, maybe for want of memory. "
                "Run it again"
            ) from error
        except KeyboardInterrupt:  # what they would still find is nobody's any more
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise
    return sorted(found, key=lambda kept: results / kept.row.place)


def _checked(results: Path, folders: list[Path], history: History | None) -> list[Kept]:
    known = leaderboard.shipped_protocols()
    with ExitStack() as stack:
        code = None
        if history:
            code = Code(history, stack.enter_context(Objects(history.folder)))
        # Threads of BLAS would wait for each other, and for those of the other process.
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        return [_row(results, folder, known, code) for folder in folders]


def _row(results: Path, folder: Path, known: dict[str, Protocol], code: Code | None) -> Kept:
    row = read.read_row(results, folder)
    current = row.cell is not None and leaderboard.is_current(row.cell, known)
    problems = list(problems_of(row, known, code, current=current))
    unread = code.unread.get(row.place, "") if code else ""
    kept = without_values(keep(row, problems, unread))
    if current and not problems:  # a sampler is given no setting that is none
        kept.looks.extend(line for search in row.searches for line in replay.looks(search))
    return kept
