"""Whether a folder's study and a command have the same rules, and which of them differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.study.folder import Study
from protocols.errors import StoreError
from protocols.protocol import Protocol, shown

# Rules that a study file says in a section of another name.
SECTIONS = {"recipe_values": "recipe", "method_values": "method"}


class OtherRulesError(StoreError):
    """A folder that holds a study under other rules.

    Attributes:
        lines: each rule that differs, where there are several.
    """

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = lines


def check_same_rules(known: Study, protocol: Protocol) -> None:
    """Raise StoreError if the folder holds a study under other rules."""
    if known.protocol.oracle_gap != protocol.oracle_gap:
        kind = {True: "with --oracle-gap", False: "without --oracle-gap"}
        raise StoreError(
            f"{known.out} holds a study {kind[known.protocol.oracle_gap]}, asked for one "
            f"{kind[protocol.oracle_gap]}: its test classes are opened more often. Give this one a "
            "folder of its own with --out"
        )
    if known.protocol.rules_hash() == protocol.rules_hash():
        return
    raise _other_rules(
        f"{known.out} holds a study under other rules",
        unlike(known.protocol, protocol, "here", "asked for"),
        f"give this one a folder of its own, as with --out "
        f"{shlex.quote(f'{known.out}-{protocol.name}')}",
    )


def check_alike(studies: Sequence[Study]) -> None:
    """Raise StoreError unless all studies are under the rules of the first."""
    first = studies[0]
    for other in studies[1:]:
        found = unlike(first.protocol, other.protocol, f"in {first.out}", f"in {other.out}")
        if first.protocol.oracle_gap != other.protocol.oracle_gap:
            with_it, without = sorted((first, other), key=lambda s: not s.protocol.oracle_gap)
            found.append(f"--oracle-gap: in {with_it.out}, not in {without.out}")
        if found:
            raise _other_rules(
                f"{first.out} and {other.out} are under other rules",
                found,
                "merge those of the same rules",
            )


def unlike(one: Protocol, other: Protocol, here: str, there: str) -> list[str]:
    """Return each rule that differs, with its values; ``here`` and ``there`` say whose they are."""
    first, second = flat(one.rules()), flat(other.rules())
    return [
        f"{name}: {first.get(name, 'not set')} {here}, {second.get(name, 'not set')} {there}"
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def _other_rules(what: str, differing: Sequence[str], remedy: str) -> OtherRulesError:
    several = len(differing) > 1
    met = f"{len(differing)} of them, below" if several else differing[0]
    return OtherRulesError(
        f"{what} ({met}). Rows of the two cannot stand in one table: {remedy}",
        differing if several else (),
    )


def flat(rules: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Return each rule as it is typed, under its key in a study file, like ``image.crop_px``."""
    found: dict[str, str] = {}
    for name, value in rules.items():
        key = before + SECTIONS.get(name, name)
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: shown(value)}
    return found
