"""The tables beyond one dataset or one search, as words.

Across datasets, and of cells that were searched more than once.
"""

from __future__ import annotations

import math

from benchmark.statistics.across import KIND
from benchmark.study.scores import HEADLINE, NOTHING
from benchmark.tables.captions import FrameRow, of_datasets, of_searches
from benchmark.tables.frames import Tables
from benchmark.tables.headlines import Headline, place_of, with_half_width
from protocols.protocol import Protocol

_ENDS = ("", "_ci_low", "_ci_high")


def further(tables: Tables) -> list[Headline]:
    """Return the tables across datasets and of repeated searches, as far as there are any."""
    found = []
    for name, make in (("across", _across), ("variance", _variance)):
        frame = getattr(tables, name)
        if not len(frame):
            continue
        main = frame[(frame["embedding"] == HEADLINE[0]) & (frame["metric"] == HEADLINE[1])]
        groups: dict[tuple[str, ...], list[FrameRow]] = {}
        for row in main.itertuples(index=False):
            place = place_of(row) if name == "variance" else (str(row.trunk), str(row.recipe))
            groups.setdefault(place, []).append(row)
        protocol = tables.study.protocol
        found += [make(place, rows, protocol) for place, rows in groups.items()]
    return found


def _across(place: tuple[str, ...], rows: list[FrameRow], protocol: Protocol) -> Headline:
    """Return methods across datasets, best mean rank first; references, then what lacks some."""
    order = sorted(
        rows,
        key=lambda row: (
            math.isnan(row.mean),
            math.isnan(row.rank),
            -row.mean if math.isnan(row.rank) else row.rank,
            row.method,
        ),
    )
    datasets = max(row.datasets for row in rows)
    cliques = any(row.cliques for row in rows)
    aside = [row for row in rows if math.isnan(row.rank) and not math.isnan(row.mean)]
    kinds = sorted({row.ci_kind for row in rows if row.ci_kind}, reverse=True)
    notes = [
        f"in brackets {', '.join(kinds)} of seeds within these datasets, of no other dataset",
        "gain: difference to the baseline at the same seeds; IQM: of its middle half",
        *(["cliques: methods with a number in common are not told apart"] if cliques else []),
        *(["no rank: references without training"] if aside else []),
        *sorted({row.note for row in rows if row.note and not math.isnan(row.mean)}),
        *(f"{row.method}: {row.note}" for row in order if row.note and math.isnan(row.mean)),
    ]
    return Headline(
        f"{' · '.join(place)}: {datasets} datasets, MAP@R, per cent",
        ("Method", "Rank", "Mean", "Gain", "IQM gain", *(["Cliques"] if cliques else [])),
        [
            (
                str(row.method),
                _bracketed(row.rank, row.rank_ci_low, row.rank_ci_high),
                *(
                    _bracketed(
                        *(100 * getattr(row, f"{n}{end}") for end in _ENDS), sign=n[0] == "g"
                    )
                    for n in ("mean", "gain", "gain_iqm")
                ),
                *([row.cliques or NOTHING] if cliques else []),
            )
            for row in order
        ],
        " · ".join(notes),
        tuple(str(row.method) for row in order),
        of_datasets(place, datasets, protocol, with_interval=KIND in kinds),
    )


def _variance(place: tuple[str, ...], rows: list[FrameRow], protocol: Protocol) -> Headline:
    """Return how the spread of repeated searches splits, in the frames' order."""
    notes = (
        "mean over searches ± t 95% of the searches' means, not conditional on one search",
        "sd of searches without the seeds' part; share of the variance with its F interval",
    )
    return Headline(
        f"{' · '.join(place)}: repeated searches, MAP@R, per cent",
        ("Method", "Searches", "Runs", "Mean", "sd search", "sd seed", "Share search"),
        [
            (
                str(row.method),
                str(row.searches),
                str(row.runs),
                with_half_width(f"{100 * row.mean:.2f}", row) if row.searches else NOTHING,
                *(_bracketed(100 * value) for value in (row.sd_search, row.sd_seed)),
                _bracketed(
                    *(100 * v for v in (row.share_search, row.share_ci_low, row.share_ci_high)),
                    digits=0,
                ),
            )
            for row in rows
        ],
        " · ".join(notes),
        tuple(str(row.method) for row in rows),
        of_searches(place_of(rows[0]), protocol, [int(row.searches) for row in rows]),
    )


def _bracketed(
    value: float,
    low: float = math.nan,
    high: float = math.nan,
    *,
    sign: bool = False,
    digits: int = 2,
) -> str:
    """Return a number with its interval in brackets, as far as there is one."""
    form = f"{'+z' if sign else ''}.{digits}f"
    if math.isnan(value):
        return NOTHING
    ends = "" if math.isnan(low) else f" ({low:{form}} to {high:{form}})"
    return f"{value:{form}}{ends}"
