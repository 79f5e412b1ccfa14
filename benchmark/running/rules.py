"""Whether a folder's study and a command have the same rules, and which of them differ."""

from __future__ import annotations

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
    here, asked = _flat(known.protocol.rules()), _flat(protocol.rules())
    differing = [
        f"{name}: {here.get(name, 'not set')} here, {asked.get(name, 'not set')} asked for"
        for name in {**here, **asked}
        if here.get(name) != asked.get(name)
    ]
    several = len(differing) > 1
    raise OtherRulesError(
        f"{known.out} holds a study under other rules "
        f"({f'{len(differing)} of them, below' if several else differing[0]}). Rows of the two "
        "cannot stand in one table: give this one a folder of its own with --out",
        differing if several else (),
    )


def _flat(rules: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Return each rule as it is typed, under its key in a study file, like ``image.crop_px``."""
    found: dict[str, str] = {}
    for name, value in rules.items():
        key = before + SECTIONS.get(name, name)
        found |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: shown(value)}
    return found
