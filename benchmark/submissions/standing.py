"""Where a row stands: who says so beside the one who submitted it, and whether it still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from benchmark.submissions.judging import judge
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.signatures import CLAIM, SUFFIX
from benchmark.submissions.voided import Void

State = Literal[
    "submitted", "verified", "confirmed by the author", "challenged", "refuted", "voided"
]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Standing:
    """A row's state, with what it follows from.

    Attributes:
        state: ``submitted``: nobody else has run it. ``verified``: somebody else's two seeds lie
            inside the prediction interval. ``confirmed by the author``: so do those of the
            method's author, whose rerun is signed with a known key. ``challenged``: reruns are
            there that disagree, or that decide nothing yet. ``refuted``: two seeds of somebody
            else lie outside, and nobody's confirm it. ``voided``: a later fix made it wrong.
        void: the entry of ``voided.toml`` that makes it void.
        signed_by: whose known key signed the row; empty for none.
        unsigned: reruns that no known key signed: anybody may have handed them in, under any name.
    """

    state: State
    void: Void | None = None
    signed_by: str = ""
    unsigned: tuple[str, ...] = ()


def standing(row: SubmittedRow, void: Void | None, signers: Mapping[str, str]) -> Standing:
    """Return where ``row`` stands.

    Args:
        row: the row.
        void: what makes it void, from :func:`benchmark.submissions.voided.void_of`.
        signers: whose known key is in which signature, from
            :func:`benchmark.submissions.signatures.signers_of`.
    """

    def signer(name: str) -> str:
        return signers.get(f"{row.place}/{name}{SUFFIX}", "")

    signed = signer(CLAIM)
    unsigned = tuple(rerun.name for rerun in row.reruns if not signer(rerun.name))
    if void:
        return Standing("voided", void, signed, unsigned)
    return Standing(_state(row, signer), None, signed, unsigned)


def _state(row: SubmittedRow, signer: Callable[[str], str]) -> State:
    """Return the state of a row that is not void; ``signer`` says whose known key signed a part."""
    outcomes = [(rerun, judge(row, rerun)) for rerun in row.reruns]
    confirming = [rerun for rerun, outcome in outcomes if outcome == "confirms"]
    refuted = any(outcome == "refutes" for _, outcome in outcomes)
    if refuted or not confirming:
        if not outcomes:
            return "submitted"
        return "challenged" if confirming or not refuted else "refuted"
    by_author = any(
        rerun.challenge and rerun.challenge.author_of_method and signer(rerun.name)
        for rerun in confirming
    )
    return "confirmed by the author" if by_author else "verified"
