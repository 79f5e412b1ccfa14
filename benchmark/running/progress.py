"""What a person sees while a study runs: a live table on a terminal, else a line per event.

Every line also goes to ``log.txt``. Programs read records; nothing reads these lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from benchmark.running.bound import graham, longest_chain
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from benchmark.study.records import ChoiceRecord, JobRecord, RunRecord, TrialRecord
from benchmark.study.scores import HEADLINE_METRIC, NOTHING, label_of, per_cent
from protocols.errors import StoreError
from protocols.names import one_line


class Progress:
    """Counts jobs, keeps the best of each cell, estimates the time left.

    Args:
        console: where lines and the live table go.
        plans: how far each cell has come at the start.
        log: file that takes every line.
        workers: jobs that run at once.
        expected_s: expected seconds of a job, by cell id, before one has been measured.
        metric: what decides epochs and trials, on validation classes.
    """

    def __init__(
        self,
        console: Console,
        plans: Sequence[CellPlan],
        log: Path,
        workers: int,
        expected_s: Mapping[str, float],
        metric: str,
    ) -> None:
        self._console, self._log, self._workers = console, log, workers
        self._metric = metric
        self._rows = {p.cell.id: _Row(p, expected_s.get(p.cell.id)) for p in plans}
        self._left = sum(plan.jobs_left for plan in plans)
        self._total, self._started = self._left, time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[eta]}"))
        self._bar = Bar(TextColumn("jobs"), *columns)
        self._task = self._bar.add_task("jobs", total=self._total, eta=self._eta())
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
            self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def trained(self, cell: CellKey, record: JobRecord) -> None:
        """A job ended: one training of one fold."""
        self._left = max(0, self._left - 1)
        row, unit = self._rows[cell.id], "trial" if record.stage == "search" else "seed"
        took = record.measured.get("seconds", 0.0)
        row.trained(took)
        where = f"{cell.row}/{cell.dataset} {unit} {record.number} fold {record.fold}"
        if record.validation:
            best = f"val {self._metric} {record.validation[self._metric]:.4f}"
            kept = f"{best} @ step {record.best_step}"
            text = f"{where}  {record.steps} steps  {kept}  {took:.1f} s"
            if resumed := record.measured.get("resumed"):
                text += f" in {len(resumed) + 1} parts"
        else:
            text = f"{where}  failed: {record.reason}  {record.detail}"
        done = self._total - self._left
        self._line(f"{text}  [{done}/{self._total} jobs, {self._eta()}]", quiet=True)

    def tried(self, cell: CellKey, trial: TrialRecord) -> None:
        """A trial ended: all its folds are scored."""
        row = self._rows[cell.id]
        row.trials_done += 1
        row.chain = max(0, row.chain - 1)
        if trial.status == "done":
            row.best = trial.value if row.best is None else max(row.best, trial.value)
        outcome = f"{trial.value:.4f}" if trial.status == "done" else f"failed: {trial.reason}"
        none = "none since this start" if row.trials_before else "none so far"
        best = none if row.best is None else f"best so far {row.best:.4f}"
        self._line(f"{cell.row}/{cell.dataset} trial {trial.number} ended  {outcome}  ({best})")

    def chosen(self, cell: CellKey, choice: ChoiceRecord) -> None:
        """The cell's setting is fixed."""
        row = self._rows[cell.id]
        row.best = choice.value
        if cell.searched and row.runs_done < row.runs:
            settings = ", ".join(f"{k}={_short(v)}" for k, v in choice.settings.items())
            self._line(f"{cell.row}/{cell.dataset} chosen: trial {choice.trial} ({settings})")

    def ran(self, cell: CellKey, run: RunRecord) -> None:
        """A run ended: one seed is tested."""
        row = self._rows[cell.id]
        row.runs_done += 1
        row.chain = min(row.chain, int(row.runs_done < row.runs))
        if run.concatenated:
            score = run.concatenated[HEADLINE_METRIC]
            row.tests.append(score)
            outcome = f"test {HEADLINE_METRIC} {score:.4f} concatenated"
        else:
            outcome = f"failed: {run.reason}"
        self._line(f"{cell.row}/{cell.dataset} seed {run.seed} tested  {outcome}")

    def note(self, text: str) -> None:
        """Say something that is not a result, such as a warning."""
        self._line(text)

    def _line(self, text: str, *, quiet: bool = False) -> None:
        """Log a line; print it unless it is quiet and the live table shows it anyway."""
        text = one_line(text)  # what a method raised is in it
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        except OSError as error:
            raise StoreError(
                f"cannot write {self._log}: {error.strerror}. What is recorded is safe: put that "
                "right and run the same command again"
            ) from error
        if not (quiet and self._live):
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._show()

    def _show(self) -> None:
        if not self._live:
            return
        self._bar.update(self._task, completed=self._total - self._left, eta=self._eta())
        table = Table(box=None)
        table.add_column("Cell", no_wrap=True, overflow="fold")  # the others break at blanks
        table.add_column("Trials")
        table.add_column(f"Best val {label_of(self._metric)}")
        table.add_column("Runs")
        table.add_column(f"Test {label_of(HEADLINE_METRIC)}")
        for row in self._rows.values():
            table.add_row(*row.cells())
        self._live.update(Group(table, Text(), self._bar))

    def _eta(self) -> str:
        seconds = time_left(list(self._rows.values()), self._workers, self._elapsed())
        return "time left unknown" if seconds is None else f"{duration(seconds)} left"

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


@dataclass
class _Work:
    """A cell's jobs: those left, and what those that ended took.

    Attributes:
        jobs_left, jobs_done: jobs.
        done_s: seconds of the jobs that ended, one after the other.
        expected_s: seconds of a job as measured before the start, None if that failed.
        chain: of the jobs left, those that must run one after the other.
    """

    jobs_left: int
    expected_s: float | None
    jobs_done: int = 0
    done_s: float = 0.0
    chain: int = 0

    def trained(self, seconds: float) -> None:
        """A job ended."""
        self.jobs_left -= 1
        self.jobs_done += 1
        self.done_s += seconds


def time_left(cells: Sequence[_Work], workers: int, elapsed_s: float) -> float | None:
    """Return the expected seconds of all jobs left, None if nothing is known.

    A cell's jobs are taken to last as its own have so far; where none has ended, as expected,
    corrected by how far expectation was off elsewhere. Job seconds become time by the pace so
    far: that pace reflects the number of workers and the time between jobs. Jobs of a cell that
    wait for each other take their whole time, however many workers there are.
    """
    seen = [cell for cell in cells if cell.jobs_done and cell.expected_s is not None]
    expected = sum(cell.jobs_done * (cell.expected_s or 0.0) for cell in seen)
    off = sum(cell.done_s for cell in seen) / expected if expected > 0 else 1.0
    done_s, done = sum(c.done_s for c in cells), sum(c.jobs_done for c in cells)
    left_s = chain_s = 0.0
    for cell in cells:
        if cell.jobs_done:
            each: float | None = cell.done_s / cell.jobs_done
        elif cell.expected_s is not None:
            each = cell.expected_s * off
        else:
            each = done_s / done if done else None
        if cell.jobs_left > 0 and each is None:
            return None
        left_s += max(0, cell.jobs_left) * (each or 0.0)
        chain_s = max(chain_s, min(cell.chain, max(0, cell.jobs_left)) * (each or 0.0))
    if done > workers and done_s > 0:
        return max(left_s * elapsed_s / done_s, chain_s)
    return graham(left_s, chain_s, workers)


class _Row(_Work):
    """One cell's line in the live table."""

    def __init__(self, plan: CellPlan, expected_s: float | None) -> None:
        super().__init__(plan.jobs_left, expected_s, chain=longest_chain(plan))
        self.name = f"{plan.cell.row}/{plan.cell.dataset}"
        self.trials, self.trials_done = plan.trials, plan.trials_done
        self.trials_before = plan.trials_done
        self.runs, self.runs_done = plan.runs, plan.runs_done
        self.best: float | None = None
        self.tests: list[float] = []

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the columns."""
        test = sum(self.tests) / len(self.tests) if self.tests else None
        trials = f"{self.trials_done}/{self.trials}" if self.trials else NOTHING
        return (
            self.name,
            trials,
            per_cent(self.best),
            f"{self.runs_done}/{self.runs}",
            per_cent(test),
        )


def duration(seconds: float) -> str:
    """Return for example ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
