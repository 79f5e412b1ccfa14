"""When a training is written down so that it may be interrupted, and how it goes on.

A training writes a checkpoint when a minute has passed since it began or since the last one; a
shorter training writes none. A checkpoint may cost one part in fifty of the time. It does not
change the training, and one that goes on from it gives the same bits as one that never stopped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from benchmark.broken import spent_by
from benchmark.study.failures import METHODS
from benchmark.study.records import Reason
from benchmark.training import checkpoint
from benchmark.training.attributes import NotPlainError
from benchmark.training.oracle import Watch
from benchmark.training.span import Span
from protocols.errors import StoreError, in_words

EVERY_S = 60.0
COST = 50  # times what writing one took must pass before the next
State = dict[str, Any]


class NotAsKeptError(Exception):
    """A network that was given its state back is not the one that was kept."""


class Course(Protocol):
    """A training under way."""

    def begin(self) -> None:
        """Note how the network looks before its first step."""
        ...

    def may_stop(self, step: int) -> bool:
        """Return whether all that later steps depend on can be written down before ``step``."""
        ...

    def state(self) -> State:
        """Return all that later steps depend on, as tensors and plain data."""
        ...

    def restore(self, step: int, state: State) -> None:
        """Go on before ``step`` from a state; only before any step was taken."""
        ...


class Clock:
    """The seconds and spans of a job, those of its earlier parts included.

    Args:
        device: the job's.

    Attributes:
        resumed: the steps at which it went on.
    """

    def __init__(self, device: str) -> None:
        self.resumed: list[int] = []
        self._span, self._before = Span(device), list[dict[str, Any]]()
        self._earlier = {"seconds": 0.0, "cpu_s": 0.0, "train_s": 0.0}
        self._started, self._cpu = time.perf_counter(), time.process_time()
        self._training: float | None = None

    def start_training(self) -> None:
        """Count as training from now on."""
        self._training = time.perf_counter()

    def spent(self) -> dict[str, float]:
        """Return ``seconds``, ``cpu_s`` and ``train_s`` until now."""
        now, since = time.perf_counter(), self._training
        parts = {
            "seconds": now - self._started,
            "cpu_s": time.process_time() - self._cpu,
            "train_s": 0.0 if since is None else now - since,
        }
        return {name: self._earlier[name] + value for name, value in parts.items()}

    def spans(self) -> list[dict[str, Any]]:
        """Return on which machines and cards the job ran until now, one span a part."""
        return [*self._before, self._span.told()]

    def go_on(self, step: int, kept: State) -> None:
        """Add the seconds and spans until a checkpoint at ``step`` was written."""
        self._earlier, self._before = kept["spent"], kept["spans"]
        self.resumed = [*kept["resumed"], step]

    def stop(self) -> None:
        """Stop reading the machine's counters."""
        self._span.close()


class Keeper:
    """Writes a training to one file now and then, and gives it back once.

    Args:
        path: the file; nothing is kept where it is None, or its folder is not on this machine.
        job: the content address of the job.
        device: that of the job.
        clock: its seconds.

    Attributes:
        words: what a person should know of it, empty if nothing.
        watch: what watches the training, if anything does; its rows are kept too.
    """

    def __init__(self, path: Path | None, job: str, device: str, clock: Clock) -> None:
        self._path = path if path is not None and path.parent.is_dir() else None
        self._job, self._device, self._clock = job, device, clock
        self._last, self._took = time.perf_counter(), 0.0
        self.words = ""
        self.watch: Watch | None = None

    def resume(self, course: Course) -> int | None:
        """Give ``course`` back what was kept; return the step before which it stands, or None.

        Raises:
            NotAsKeptError: it did not become what was kept; all must be built anew.
        """
        if self._path is None:
            return None
        course.begin()
        try:
            kept = checkpoint.read(self._path, self._identity())
        except FileNotFoundError:
            return None
        except checkpoint.UnusableError as error:
            self.set_aside(str(error))
            return None
        try:
            step: int = kept["step"]
            course.restore(step, kept["course"])
            if self.watch is not None:
                self.watch.rows, self.watch.openings, self.watch.seconds = kept["watch"]
            self._clock.go_on(step, kept)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            if spent_by(error):
                raise  # the device's failure says nothing of what was kept
            raise NotAsKeptError(in_words(error)) from error
        self._last = time.perf_counter()
        return step

    def before(self, step: int, course: Course) -> None:
        """Write ``course`` down as it is before ``step``, where it is time for that."""
        if self._path is None or time.perf_counter() - self._last < self._wait():
            return
        if not course.may_stop(step):
            return
        started = time.perf_counter()
        watch, clock = self.watch, self._clock
        try:
            kept = {"step": step, "course": course.state(), "resumed": clock.resumed}
            kept["watch"] = (watch.rows, watch.openings, watch.seconds) if watch else None
            kept |= {"spent": clock.spent(), "spans": clock.spans()}
            checkpoint.write(self._path, self._identity(), kept)
        except NotPlainError as error:
            self._say(f"no checkpoints: {error}. Stopped, this training starts anew")
            self._path = None
        except StoreError as error:
            self._say(f"no checkpoint at step {step}: {error}")
        self._last = time.perf_counter()
        self._took = self._last - started

    def set_aside(self, why: str) -> None:
        """Put the checkpoint aside and say why; the training starts anew."""
        assert self._path is not None
        checkpoint.set_aside(self._path)
        self._say(f"its checkpoint is set aside, trained anew: {why}")

    def failed(self, reason: Reason) -> None:
        """Drop the checkpoint of a training that failed by itself: it would do so again."""
        if self._path is not None and reason in METHODS:
            self._path.unlink(missing_ok=True)

    def said(self) -> dict[str, Any]:
        """Return what a record says of it under ``measured``."""
        resumed = {"resumed": self._clock.resumed} if self._clock.resumed else {}
        return {**resumed, **({"checkpoint": self.words} if self.words else {})}

    def _wait(self) -> float:
        return max(EVERY_S, COST * self._took)

    def _identity(self) -> checkpoint.Identity:
        return checkpoint.identity(self._job, self._device)

    def _say(self, words: str) -> None:
        if not self.words:
            self.words = words
        print(f"job {self._job}: {words}", flush=True)
