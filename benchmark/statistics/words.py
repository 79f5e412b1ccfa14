"""How numbers and verdicts are written for people, once for tables, report and leaderboard."""

from __future__ import annotations

from benchmark.statistics.verdicts import VERDICTS

NOTHING = "\N{EN DASH}"  # stands where there is no number
MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "inconclusive": "~", "not tested": "?"}
NEAR_MISS = 0.1  # an adjusted p up to here is shown beside "inconclusive"


def per_cent(value: float | None, *, sign: bool = False, digits: int = 2) -> str:
    """Return a fraction in per cent, a dash where there is none."""
    if value is None or value != value:
        return NOTHING
    return f"{100 * value:{'+z' if sign else ''}.{digits}f}"


def spoken(verdict: str, needs: int | None = None) -> str:
    """Return a verdict as people read it, with the seeds it lacks."""
    if verdict == "not tested" and needs:
        return f"not tested (needs {needs} seeds)"
    return verdict


def is_near_miss(verdict: str, p_holm: float | None) -> bool:
    """Return whether an inconclusive comparison came close enough that its p is shown."""
    return verdict == "inconclusive" and p_holm is not None and p_holm <= NEAR_MISS


def counted(verdicts: dict[str, int]) -> str:
    """Return how many comparisons there are of each verdict, in the verdicts' order."""
    return ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS if verdicts.get(word))
