"""Does A beat B? What the first screen says of each dataset, trunk and recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report.charts import number
from benchmark.report.rows import Pair
from benchmark.report.sections import Section
from benchmark.statistics.verdicts import VERDICTS


@dataclass(frozen=True)
class Answer:
    """A question, the reply in a word or two, and the methods behind it.

    Attributes:
        number: of the section.
        where: of dataset, trunk and recipe, those in which sections differ.
        opponent: the one method that all others are compared with, None if there is none.
        reply: what is known.
        why: what is missing, where nothing can be known.
        groups: comparisons by verdict, those without any left out.
        frozen: how many trained methods the best row on the untrained trunk is not below; empty
            for a trunk without weights.
    """

    number: int
    where: str
    opponent: str | None
    reply: str
    why: str
    groups: dict[str, list[Pair]]
    frozen: str = ""


def answers(shown: Sequence[Section]) -> Iterator[Answer]:
    """Yield the answer of every section that has comparisons, or a bar that the trunk sets."""
    places = [section.place for section in shown]
    telling = [k for k in range(3) if k == 0 or len({place[k] for place in places}) > 1]
    for section in shown:
        groups = {word: found for word, found in section.verdicts.items() if found}
        frozen = _frozen(section)
        if groups or frozen:
            yield Answer(
                number=section.number,
                where=" · ".join(section.place[k] for k in telling),
                opponent=section.opponent,
                reply=_reply(groups, section.opponent),
                why=_why(groups),
                groups=groups,
                frozen=frozen,
            )


def _reply(groups: dict[str, list[Pair]], opponent: str | None) -> str:
    if not groups:
        return "Nothing is compared yet."
    met = [word for word in VERDICTS if word in groups]
    if opponent is None:
        differ = sum(len(groups.get(word, ())) for word in ("better", "worse"))
        return f"{differ} of {sum(map(len, groups.values()))} pairs differ."
    if "better" in groups:
        return "Yes."
    if met == ["worse"]:
        return "No, all are worse."
    if met == ["equivalent"]:
        return "No, all are equivalent."
    if met == ["not tested"]:
        return "Not tested."
    return "Not shown." if {"inconclusive", "not tested"} & set(met) else "No."


def _frozen(section: Section) -> str:
    best, below = section.best_untrained, section.below_it
    if best is None or best.main is None:
        return ""
    trained = sum(row.role != "reference" for row in section.finished)
    at = f"{best.name} ({number(best.main.mean)} % MAP@R), the best that the trunk does untrained"
    names = f": {', '.join(below)}" if below else ""
    return (
        f"{len(below)} of {trained} trained methods lie below {at} (by means, not tested){names}."
    )


def _why(groups: dict[str, list[Pair]]) -> str:
    """Return why nothing could be shown, empty where one comparison at least was tested."""
    untested = groups.get("not tested", [])
    if not untested or len(groups) > 1:
        return ""
    words = sorted({pair.spoken for pair in untested})
    return f"No comparison could be tested: {', '.join(words)}."
