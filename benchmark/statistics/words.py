"""How verdicts are written for people, once for tables, report and leaderboard."""

from __future__ import annotations

NEAR_MISS = 0.1  # an adjusted p up to here is shown beside "inconclusive"


def spoken(verdict: str, needs: int | None = None, untested: str = "") -> str:
    """Return a verdict as people read it, with the seeds it lacks or why no number would do."""
    why = untested or (f"needs {needs} seeds" if needs else "")
    return f"{verdict} ({why})" if verdict == "not tested" and why else verdict


def is_near_miss(verdict: str, p_holm: float | None) -> bool:
    """Return whether an inconclusive comparison came close enough that its p is shown."""
    return verdict == "inconclusive" and p_holm is not None and p_holm <= NEAR_MISS
