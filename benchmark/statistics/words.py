"""How verdicts are written for people, once for tables, report and leaderboard."""

from __future__ import annotations

NEAR_MISS = 0.1  # an adjusted p up to here is shown beside "inconclusive"


def spoken(verdict: str, needs: int | None = None) -> str:
    """Return a verdict as people read it, with the seeds it lacks."""
    if verdict == "not tested" and needs:
        return f"not tested (needs {needs} seeds)"
    return verdict


def is_near_miss(verdict: str, p_holm: float | None) -> bool:
    """Return whether an inconclusive comparison came close enough that its p is shown."""
    return verdict == "inconclusive" and p_holm is not None and p_holm <= NEAR_MISS
