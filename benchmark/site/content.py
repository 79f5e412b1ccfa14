"""What the pages show, put together from results/: tables, rows, and what belongs to them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.report.charts import Axis, Mark, spanning
from benchmark.statistics.words import spoken
from benchmark.study.scores import HEADLINE, NOTHING, PARTS, Part, label_of, per_cent
from benchmark.submissions import leaderboard, read
from benchmark.submissions.findings.studies import Study, studies
from benchmark.submissions.judging import judge, score_of
from benchmark.submissions.kept import keep
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell, Run

# Columns of the leaderboard in seconds and joules, and what they become in hours.
_TOOK = (
    ("machine_s", "its part of the machine", "h"),
    ("cpu_s", "processors", "h"),
    ("gpu_s", "its part of the GPUs", "h"),
    ("package_j", "its part of what the processor packages counted", "Wh"),
    ("gpu_j", "its part of what the GPUs counted", "Wh"),
)
_UNSAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Row:
    """A row of results/ with the numbers of the leaderboard.

    Attributes:
        submitted: what its files hold.
        cell: its cell.
        parts: the leaderboard's columns by (embedding, metric).
        axis: of its table's chart, in per cent.
    """

    submitted: SubmittedRow
    cell: Cell
    parts: dict[Part, dict[str, Any]]
    axis: Axis

    @property
    def head(self) -> dict[str, Any]:
        """Return the leaderboard's columns of the headline metric."""
        return self.parts[HEADLINE]

    @property
    def name(self) -> str:
        """Return the row's name in its table."""
        return str(self.head["method"])

    @property
    def address(self) -> str:
        """Return the row's page, which is the same as long as the row is in results/."""
        return f"rows/{self.submitted.place}.html"

    @property
    def is_baseline(self) -> bool:
        """Return whether the others of the table are compared with this row."""
        return bool(self.head["method"] == self.head["baseline"])

    @property
    def seconds(self) -> float:
        """Return what search and runs took together by the clock, which runs on beside others."""
        return float(self.head["search_s"] + self.head["run_s"])

    @property
    def cost(self) -> float | None:
        """Return what search and runs took of cards, or else of processors; seconds."""
        told = self.head["gpu_s"] or self.head["cpu_s"]
        return None if told is None else float(told)

    @property
    def took(self) -> list[tuple[str, str]]:
        """Return what search and runs cost together, in words and numbers; what is told alone."""
        head, hour = self.head, 3600
        found = [("jobs, one after the other, wall-clock", f"{self.seconds / hour:.4f} h")]
        for name, words, unit in _TOOK:
            if head[name]:
                found.append((words, f"{head[name] / hour:.4f} {unit}"))
        if head["price_per_hour"] and head["machine_s"] is not None:
            amount, currency = head["price_per_hour"].split()
            money = f"{float(amount) * head['machine_s'] / hour:.4f} {currency}"
            found.append((f"money, at {head['price_per_hour']} an hour of a machine", money))
        return found

    @property
    def state(self) -> str:
        """Return where the row stands; a stale one is said to be stale."""
        state = str(self.head["state"])
        return state if self.head["current"] or state == "voided" else f"{state}, stale"

    @property
    def verdict(self) -> str:
        """Return the verdict of the headline metric in words."""
        return self.verdict_of(HEADLINE)

    def verdict_of(self, part: Part) -> str:
        """Return a metric's verdict against the baseline in words, a dash where there is none."""
        found = self.parts[part]
        said = found.get("verdict")
        words = spoken(said, found["needs_seeds"]) if said else NOTHING
        return f"{words} ({found['mark']})" if said and found["mark"] else words

    @cached_property
    def mark(self) -> Mark:
        """Return mean, interval and seeds of the headline metric, in per cent."""
        head = self.head
        dots = [100 * v for _, v in self.values(HEADLINE) if not math.isnan(v)]
        ends = [None if head[k] is None else 100 * head[k] for k in ("mean", "ci_low", "ci_high")]
        return Mark(self.name, ends[0], ends[1], ends[2], tuple(dots))

    def values(self, part: Part) -> Iterator[tuple[int, float]]:
        """Yield (seed, value) of a metric, NaN where the run diverged; one if nothing is drawn."""
        for seed in range(1 if self.submitted.fixed else self.cell.seeds):
            yield seed, score_of(self.submitted.runs.get(seed), *part)

    @property
    def runs(self) -> list[tuple[int, Run]]:
        """Return the runs by seed."""
        return sorted(self.submitted.runs.items())

    @property
    def reruns(self) -> list[tuple[str, str, str, int, bool]]:
        """Return (name, who, what it says, runs, whether a known key signed it) of each rerun."""
        unsigned = self.head["unsigned_reruns"]
        return [
            (
                r.name,
                r.challenge.who if r.challenge else "",
                judge(self.submitted, r),
                len(r.runs),
                r.name not in unsigned,
            )
            for r in self.submitted.reruns
        ]

    def score(self, part: Part) -> str:
        """Return a mean in per cent with half of its interval."""
        found = self.parts[part]
        if found["ci_low"] is None or found["mean"] is None:
            return per_cent(found["mean"])
        return f"{per_cent(found['mean'])} ± {per_cent(found['mean'] - found['ci_low'])}"


@dataclass(frozen=True)
class Board:
    """One table of the leaderboard: rows that may be compared with each other.

    Attributes:
        rows: best first.
        label: what the protocol says beside every table of its own.
    """

    rows: tuple[Row, ...]
    label: str

    @property
    def head(self) -> dict[str, Any]:
        """Return the columns that all rows share."""
        return self.rows[0].head

    @property
    def title(self) -> str:
        """Return the dataset, and what it was searched and trained under."""
        return str(self.head["dataset"])

    @property
    def under(self) -> str:
        """Return protocol, version, trunk and recipe."""
        head = self.head
        rules = f"{head['protocol']} v{head['protocol_version']} {head['protocol_hash']}"
        return f"{rules} · trunk {head['trunk']} · recipe {head['recipe']}"

    @property
    def status(self) -> str:
        """Return ``void``, ``stale``, or nothing for a table that holds."""
        if self.head["void_since"]:
            return "void"
        return "" if self.head["current"] else "stale"

    @property
    def slug(self) -> str:
        """Return the folder of its comparisons: one for each version of the rules."""
        head = self.head
        status = "-void" if self.status == "void" else ""
        rules = f"{head['protocol']}-{head['protocol_hash']}-{len(self.rows[0].runs)}{status}"
        return "/".join(
            _UNSAFE.sub("-", part)
            for part in (rules, head["dataset"], f"{head['trunk']}.{head['recipe']}")
        )


@dataclass(frozen=True)
class Content:
    """All that the site shows.

    Attributes:
        boards: tables that hold, then stale ones, then void ones.
        studies: of two datasets or more.
        csv: the leaderboard as a file.
    """

    boards: tuple[Board, ...]
    studies: tuple[Study, ...]
    csv: bytes

    @cached_property
    def rows(self) -> list[Row]:
        """Return the rows of all tables."""
        return [row for board in self.boards for row in board.rows]

    def of_method(self, method: str) -> list[tuple[Board, Row]]:
        """Return the rows of a method with their tables."""
        return [(b, row) for b in self.boards for row in b.rows if row.cell.method == method]

    def of_dataset(self, dataset: str) -> list[Board]:
        """Return the tables of a dataset."""
        return [board for board in self.boards if board.title == dataset]


def read_results(results: Path) -> Content:
    """Return what ``results`` holds; what does not read is left to ``verify``."""
    rows = [read.read_row(results, folder) for folder in read.row_folders(results)]
    kept = [keep(row) for row in rows]
    made = leaderboard.tables(results, kept)
    known = leaderboard.shipped_protocols()
    by_place = {row.place: row for row in rows}
    boards = []
    for table in (table for table in made if table):
        protocol = known.get(table[0]["protocol"])
        boards.append(Board(tuple(_rows(table, by_place)), protocol.label if protocol else ""))
    found = tuple(studies(made, kept, known))
    return Content(tuple(boards), found, leaderboard.to_csv(made))


def metric_name(part: Part) -> str:
    """Return a metric with its embedding, for people."""
    return f"{label_of(part[1])}, {part[0]}"


def _rows(table: Sequence[dict[str, Any]], by_place: dict[str, SubmittedRow]) -> Iterable[Row]:
    places = dict.fromkeys(str(row["place"]) for row in table)
    means = [row["mean"] for row in table if _part(row) == HEADLINE and row["mean"] is not None]
    lows = [row["ci_low"] for row in table if _part(row) == HEADLINE and row["ci_low"] is not None]
    highs = [row["ci_high"] for row in table if _part(row) == HEADLINE and row["ci_high"]]
    axis = spanning([100 * value for value in (*means, *lows, *highs)] or [0.0, 100.0])
    for place in places:
        own = [row for row in table if row["place"] == place]
        parts = {_part(row): {**dict.fromkeys(leaderboard.COLUMNS), **row} for row in own}
        submitted = by_place[place]
        if submitted.cell is not None and set(parts) == set(PARTS):
            yield Row(submitted, submitted.cell, parts, axis)


def _part(row: dict[str, Any]) -> Part:
    return (row["embedding"], row["metric"])
