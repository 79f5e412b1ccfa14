"""What a result was made with: versions, device, commit."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "pytorch-metric-learning", "optuna", "numpy", "timm")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return Python, operating system and package versions; a missing package is ``absent``."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@lru_cache(maxsize=1)
def commit() -> dict[str, str | bool | None]:
    """Return the checkout's commit and whether it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    head, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    return {"commit": head, "dirty": bool(status) if head else None}
