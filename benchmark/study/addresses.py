"""Addresses of servers and databases, as they may be printed."""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """Return an address, or a text that holds some, without user names and passwords."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)
