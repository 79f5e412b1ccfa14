"""Who hands a row or a rerun in, and on what it ran: asked for, or told by git and the machine."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.submissions import git
from benchmark.submissions.judging import name_fault
from protocols.errors import InvalidInputError
from protocols.names import one_line

Ask = Callable[[str, str], str]
"""Puts a question with what is taken where nothing is answered; returns the answer."""

_LONGEST = 200  # characters, as a claim's fields may have
_CLAIM = """\
# What the records cannot know. Leave empty what there is none of.
who = {who}
hardware = {hardware}
deviations = ""
predecessor = ""  # commit that holds the row which this one replaces
note = ""
price_per_hour = {price}  # of the machine, like "0.80 EUR"
"""
_PREDECESSOR = re.compile(r"""^(predecessor\s*=\s*)(?:""|'')""", re.MULTILINE)
_CHALLENGE = """\
# Somebody else's rerun of the claim beside it.
who = {who}
hardware = {hardware}
note = ""
"""


@dataclass(frozen=True)
class Signer:
    """Who ran it, on what, and what an hour of that costs, if they say so."""

    who: str
    hardware: str
    price: str = ""

    def claim(self) -> bytes:
        """Return the content of a claim.toml."""
        return self._filled(_CLAIM)

    def challenge(self) -> bytes:
        """Return the content of a challenge-DATE.toml."""
        return self._filled(_CHALLENGE)

    def _filled(self, form: str) -> bytes:
        # Of visible signs TOML escapes the same two as JSON, and others were refused.
        quoted = {k: json.dumps(text, ensure_ascii=False) for k, text in vars(self).items()}
        return form.format(**quoted).encode()


def replacing(claim: bytes, predecessor: str) -> bytes:
    """Return a claim that names ``predecessor``, unless it names one already or there is none.

    Args:
        claim: content of a claim.toml.
        predecessor: commit that holds the row which is replaced, empty for none.
    """
    text = claim.decode("utf-8", errors="surrogateescape")
    named = _PREDECESSOR.sub(rf'\g<1>"{predecessor}"', text, count=1)
    return named.encode("utf-8", errors="surrogateescape")


def signer(
    who: str | None, hardware: str | None, folder: Path, device: str, ask: Ask | None
) -> Signer:
    """Return who hands something in and what it ran on.

    Args:
        who: as it was given on the command line; None to find it out.
        hardware: the same.
        folder: where git is asked for the user's name.
        device: what the runs' records say they ran on.
        ask: puts a question to the user; None where nobody sits there, who then is git's user on
            this machine.

    Raises:
        InvalidInputError: a text that no claim may hold, or nobody says who it was.
    """
    if who is None:
        usual = git.user(folder)
        who = ask("who ran it", usual) if ask else usual
        if not who.strip():
            raise InvalidInputError(
                "who ran it? Give --who NAME, or tell git: git config user.name NAME"
            )
    if fault := name_fault(who):
        raise InvalidInputError(f"--who: {fault}")
    if hardware is None:
        usual = machine(device)
        hardware = ask("on what hardware", usual) if ask else usual
    return Signer(_checked("--who", who), _checked("--hardware", hardware))


def machine(device: str) -> str:
    """Return this machine in words, by processor and cores, and the device of the runs."""
    return one_line(f"{_processor()}, {os.cpu_count()} cores; ran on {device}")[:_LONGEST]


def _processor() -> str:
    """Return the processor's name, or its family where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:  # only Linux has it
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _checked(option: str, text: str) -> str:
    kept = text.strip()
    if not kept or len(kept) > _LONGEST:
        raise InvalidInputError(f"{option}: {len(kept)} characters; expected 1 to {_LONGEST}")
    if one_line(kept) != kept:
        raise InvalidInputError(
            f"{option} {one_line(kept)!r}: invisible characters; expected plain text"
        )
    return kept
