"""The leaderboard's tables as a block of a README: the headline metric, per cent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.statistics.words import spoken
from benchmark.study.scores import HEADLINE, NOTHING, per_cent
from benchmark.submissions.took import column_of
from protocols.protocol import Protocol


def block_of(
    tables: Sequence[Sequence[dict[str, Any]]], known: Mapping[str, Protocol]
) -> Iterator[str]:
    """Yield the README's block: the headline metric of every table, per cent."""
    section = ""
    for table in tables:
        rows = [row for row in table if (row["embedding"], row["metric"]) == HEADLINE]
        first = rows[0]
        heading = _heading(first)
        if heading != section:
            section = heading
            yield f"## {heading}\n"
        protocol = known.get(first["protocol"])
        yield from _markdown_table(rows, protocol.label if protocol else "")
        yield from _voids(rows)
        if first["machines"]:
            yield f"{first['machines'][0].upper()}{first['machines'][1:]}.\n"


def _heading(row: dict[str, Any]) -> str:
    """Return what a table stands under, empty for one that holds."""
    if row["void_since"]:
        return "Void: a fix has shown them to be wrong"
    return "" if row["current"] else "Stale: under an earlier version of their protocol"


def _voids(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield why each row of a table is void, and what it costs to make it anew."""
    for row in rows:
        if row["void_since"]:
            seconds = row["search_s"] + row["run_s"]
            why = f"void since {row['void_since']}: {row['void_why']}"
            cost = f"{seconds:.0f} s of trainings, wall-clock, to make it again"
            yield f"- `{row['method']}`: {why} ({cost})"
    if any(row["void_since"] for row in rows):
        yield ""


def _markdown_table(rows: Sequence[dict[str, Any]], label: str) -> Iterator[str]:
    first = rows[0]
    version = f"v{first['protocol_version']} {first['protocol_hash']}"
    names = " · ".join(f"`{first[name]}`" for name in ("protocol", "dataset", "trunk", "recipe"))
    yield f"{names} ({version}){f': {label}' if label else ''}\n"
    measure, unit = column_of(rows)
    yield f"| method | MAP@R, % | 95 % | n | vs baseline | p | verdict | trials | {unit} | state |"
    yield "|---|--:|---|--:|---|--:|---|--:|--:|---|"
    for row in rows:
        is_baseline = row["method"] == row["baseline"]
        cells = (
            f"`{row['method']}`{' (baseline)' if is_baseline else ''}{' †' * row['deviates']}",
            per_cent(row["mean"]),
            _range(row["ci_low"], row["ci_high"]),
            f"{row['n']}/{row['runs']}",
            _difference(row),
            _chance(row.get("p_holm")),
            _verdict(row),
            row["trials"],
            NOTHING if row[measure] is None else f"{row[measure]:.0f}",
            _state(row),
        )
        yield f"| {' | '.join(map(str, cells))} |"
    if any(row["deviates"] for row in rows):
        yield "\n† deviates from the protocol; its `claim.toml` says how."
    yield ""


def _chance(p: float | None) -> str:
    if p is None:
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _verdict(row: dict[str, Any]) -> str:
    if not row.get("verdict"):
        return NOTHING
    said = spoken(row["verdict"], row["needs_seeds"])
    return f"{said} ({row['mark']})" if row["mark"] else said


def _state(row: dict[str, Any]) -> str:
    """Return a row's state with the reruns that made it, and who signed the row."""
    parts = [f"**{row['state']}**" if row["state"] in ("refuted", "voided") else row["state"]]
    for said in ("confirmed", "refuted"):
        names = row[f"{said}_by"].split()
        unsigned = row["unsigned_reruns"]
        marked = [f"{name} (unsigned)" if name in unsigned else name for name in names]
        if marked:
            parts.append(f"{said} by {' '.join(marked)}")
    parts.append(f"signed by {row['signed_by']}" if row["signed_by"] else "unsigned")
    return "; ".join(parts)


def _difference(row: dict[str, Any]) -> str:
    if row.get("difference") is None:
        return NOTHING
    ends = _range(row["difference_low"], row["difference_high"], sign="+")
    return f"{per_cent(row['difference'], sign='+')} ({ends})"


def _range(low: float | None, high: float | None, sign: str = "") -> str:
    return NOTHING if low is None else f"{per_cent(low, sign=sign)} to {per_cent(high, sign=sign)}"
