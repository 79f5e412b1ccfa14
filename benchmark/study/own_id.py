"""What tells this output folder from another one that holds equal cells.

Cells of two studies under equal rules have equal ids, and their runs may differ: one machine
failed, another did not. Where several studies share a tracking server or an Optuna storage, each
writes under its own id and touches no other's. The id is drawn once and lies in the folder, so a
folder that is moved stays the same study. A folder that is copied and continued in both places is
one study to a server; remove ``study.id`` from the copy to make it another one.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from benchmark.study import records

FILE = "study.id"


def own_id(out: Path) -> str:
    """Return the 12 hex digits of the study in ``out``; draw them where there are none yet."""
    path = out / FILE
    try:
        held = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        held = ""
    if re.fullmatch(r"[0-9a-f]{12}", held):
        return held
    fresh = secrets.token_hex(6)
    records.write_bytes(path, f"{fresh}\n".encode())
    return fresh
