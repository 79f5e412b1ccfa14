"""results/ to one table: rows with intervals, differences to the baseline, and who verified them.

The bytes depend on results/ and on the current protocols alone. Numbers are rounded to six
digits, so that the last bit of a library's quantile does not decide whether a file changed.
Metrics are fractions in ``leaderboard.csv`` and per cent in the README's block.
"""

from __future__ import annotations

import csv
import io
import math
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmark.statistics import paired, ranking, verdicts
from benchmark.study.machines import unlike
from benchmark.study.records import write_bytes
from benchmark.study.scores import HEADLINE, PARTS, Part
from benchmark.submissions import front
from benchmark.submissions.board import block_of
from benchmark.submissions.compared import against, values_of
from benchmark.submissions.findings import page
from benchmark.submissions.findings.studies import studies
from benchmark.submissions.judging import Outcome, judge
from benchmark.submissions.kept import Kept, unchecked
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell
from benchmark.submissions.signatures import signers_of
from benchmark.submissions.standing import Standing, standing
from benchmark.submissions.took import TOOK, took
from benchmark.submissions.voided import read_voids, void_of
from protocols import specs
from protocols.names import to_field
from protocols.protocol import Protocol

FILE, README = "leaderboard.csv", front.README
BEGIN, END = "<!-- leaderboard: made by `verify --rebuild` -->", "<!-- end of leaderboard -->"
COLUMNS = (
    "protocol",
    "protocol_version",
    "protocol_hash",
    "current",
    "dataset",
    "trunk",
    "recipe",
    "method",
    "embedding",
    "metric",
    "n",
    "runs",
    "mean",
    "ci_low",
    "ci_high",
    "ci_kind",
    "baseline",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
    "verdict",
    "trials",
    "search_s",
    "run_s",
    "verified",
    "confirmed_by",
    "refuted_by",
    "deviates",
    "difference_low_family",
    "difference_high_family",
    "family_size",
    "p_t",
    "p_sign_flip",
    "p_equivalent",
    "mark",
    "needs_seeds",
    "test_classes",
    "test_ci_low",
    "test_ci_high",
    "test_ci_kind",
    "state",
    "signed_by",
    "void_since",
    "void_why",
    *TOOK,
    "price_per_hour",
    "p",
)


@dataclass(frozen=True)
class _Line:
    """A row of results/ with its place in the tables."""

    row: SubmittedRow
    cell: Cell
    current: bool
    class_columns: Mapping[Part, dict[str, Any]]  # of the interval over test classes
    standing: Standing

    @property
    def group(self) -> tuple[Any, ...]:
        """Return what rows of one table share; stale ones come late, void ones last."""
        c = self.cell
        rules = (c.protocol, -c.protocol_version, c.protocol_hash, c.seeds)
        return (
            self.standing.void is not None,
            not self.current,
            *rules,
            c.dataset,
            c.trunk,
            c.recipe,
        )

    def reruns(self, outcome: Outcome) -> list[str]:
        """Return the names of the challenges with this outcome."""
        return [r.name for r in self.row.reruns if judge(self.row, r) == outcome]


def shipped_protocols() -> dict[str, Protocol]:
    """Return the protocols of this checkout by name; installed plugins are not looked at."""
    modules = [import_module(f"{specs.__name__}.{m.name}") for m in _spec_files()]
    return {module.PROTOCOL.name: module.PROTOCOL for module in modules}


def is_current(cell: Cell, known: Mapping[str, Protocol]) -> bool:
    """Return whether ``cell`` kept to the protocol's rules as they are now."""
    protocol = known.get(cell.protocol)
    return protocol is not None and cell.protocol_hash == protocol.hash()


def tables(results: Path, rows: Iterable[Kept]) -> list[list[dict[str, Any]]]:
    """Return the tables that ``rows`` make, those that hold first.

    Each is a list of dictionaries, one a row and metric, best first by the headline metric, with
    the names of ``COLUMNS`` and ``place``, the row's folder below ``results``.
    """
    known, rows, voids = shipped_protocols(), list(rows), read_voids()
    signers = signers_of(results, [results / kept.row.place for kept in rows])
    lines = [
        _Line(
            row,
            cell,
            is_current(cell, known),
            kept.class_columns,
            standing(row, void_of(cell, voids), signers),
        )
        for kept in rows
        if (cell := (row := kept.row).cell) and row.runs
    ]
    lines.sort(key=lambda line: (line.group, line.cell.row))
    return [_table(list(group)) for _, group in groupby(lines, key=lambda line: line.group)]


def build(results: Path, rows: Iterable[Kept]) -> dict[Path, bytes]:
    """Return the files that ``rows`` make.

    These are the CSV, the README with its block replaced, the findings of every protocol with a
    study, and the README beside the folder ``results`` where it has a block for one of them.
    """
    rows, known = list(rows), shipped_protocols()
    made = tables(results, rows)
    files, first = {results / FILE: to_csv(made)}, {}
    for name, group in groupby(studies(made, rows, known), key=lambda s: s.protocol.name):
        own = list(group)
        files[results / name / page.FILE] = page.markdown(own).encode()
        first[name] = front.first_of(own)
    readme = results / README
    block = "\n".join(block_of(made, known))
    if (text := front.with_block(front.text_of(readme), BEGIN, END, block)) is not None:
        files[readme] = text.encode()
    return files | front.files(results, first)


def write(results: Path) -> list[Path]:
    """Rebuild the leaderboard of ``results``; return the files that changed."""
    changed, made = [], build(results, unchecked(results))
    for path in results.glob(f"*/{page.FILE}"):
        if path not in made:  # of rows that are not there any more
            path.unlink()
    for path, content in made.items():
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)
            changed.append(path)
    return changed


def _spec_files() -> Iterator[pkgutil.ModuleInfo]:
    return (m for m in pkgutil.iter_modules(specs.__path__) if not m.name.startswith("_"))


def _table(lines: Sequence[_Line]) -> list[dict[str, Any]]:
    """Return a table's rows: every metric of every method against the baseline.

    Complete rows come first, best first; those with failed runs have no place among them.
    """
    rows: list[dict[str, Any]] = []
    note = unlike(
        (line.cell.row, run.environment.known())
        for line in lines
        for _, run in sorted(line.row.runs.items())
    )
    for part in PARTS:
        rows += [{**row, "machines": note} for row in _compared(lines, part)]
    standings = [
        ranking.Standing(row["method"], row["mean"] or 0.0, row["n"], row["runs"] - row["n"])
        for row in rows
        if (row["embedding"], row["metric"]) == HEADLINE
    ]
    order = {standing.name: n for n, standing in enumerate(ranking.order(standings))}
    return sorted(
        rows,
        key=lambda r: (PARTS.index((r["embedding"], r["metric"])), order[r["method"]]),
    )


def _compared(lines: Sequence[_Line], part: Part) -> Iterator[dict[str, Any]]:
    """Yield one metric's rows, each against the baseline."""
    rows, seeds = [line.row for line in lines], lines[0].cell.seeds
    baseline = lines[0].cell.rules.get("baseline")
    base = next((n for n, line in enumerate(lines) if line.cell.method == baseline), None)
    judged = {} if base is None else against(rows, base, seeds, part)
    base_row = lines[base].cell.row if base is not None else None
    for n, line in enumerate(lines):
        values = [v for v in values_of(line.row, seeds, part) if not math.isnan(v)]
        compared = _difference_columns(judged[n]) if n in judged else {}
        beside = {"baseline": base_row, **line.class_columns[part]}
        yield {**_columns(line, part, values), **beside, **compared}


def _difference_columns(result: verdicts.Judged) -> dict[str, Any]:
    difference = result.paired.difference
    return {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "difference_low_family": result.low,
        "difference_high_family": result.high,
        "family_size": result.family,
        "p_holm": result.p_holm,
        "p_t": result.p_t,
        "p_sign_flip": result.paired.p,
        "p_equivalent": result.p_equivalent,
        "mark": result.mark or None,
        "verdict": result.verdict,
        "needs_seeds": result.needs,
        "p": result.p,
    }


def _columns(line: _Line, part: Part, values: list[float]) -> dict[str, Any]:
    cell, row = line.cell, line.row
    interval = paired.interval_of(values, fixed=row.fixed)
    confirmed, refuted = line.reruns("confirms"), line.reruns("refutes")
    names = ("protocol", "protocol_version", "protocol_hash", "dataset", "trunk", "recipe")
    return {
        **{name: getattr(cell, name) for name in names},
        "current": line.current,
        "place": row.place,
        "method": cell.row,
        "embedding": part[0],
        "metric": part[1],
        "n": interval.n,
        "runs": 1 if row.fixed else cell.seeds,
        "mean": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "ci_kind": interval.kind,
        "trials": len(row.trials),
        "search_s": math.fsum(t.seconds for t in row.trials),
        "run_s": math.fsum(r.seconds for r in row.runs.values()),
        "verified": bool(confirmed) and not refuted,
        "confirmed_by": " ".join(confirmed),
        "refuted_by": " ".join(refuted),
        "deviates": bool(row.claim and row.claim.deviations),
        **{name: took(row, name) for name in TOOK},
        "price_per_hour": (row.claim.price_per_hour if row.claim else "") or None,
        **_standing_columns(line.standing),
    }


def _standing_columns(found: Standing) -> dict[str, Any]:
    void = found.void
    return {
        "state": found.state,
        "signed_by": found.signed_by or None,
        "unsigned_reruns": found.unsigned,  # said in words, no column
        "void_since": void.since.isoformat() if void else None,
        "void_why": void.why if void else None,
    }


def to_csv(tables: Sequence[Sequence[dict[str, Any]]]) -> bytes:
    """Return tables as one CSV file, fractions and seconds with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for row in table:
            writer.writerow([_plain(row.get(name)) for name in COLUMNS])
    return text.getvalue().encode()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.6f}".replace("-0.000000", "0.000000")
    if isinstance(value, str):
        return to_field(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
