"""Seeds derive from names: the same names give the same seed on every machine."""

from __future__ import annotations

import hashlib


def seed(*names: str | int) -> int:
    """Return a seed in [0, 2**63) from sha256 over ``names``."""
    text = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
