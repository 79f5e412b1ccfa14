"""What a result was made with: versions, device, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "pytorch-metric-learning", "optuna", "numpy", "timm")
CODE = ("benchmark", "protocols")  # the folders whose every file can move a number
CHECKOUT = Path(__file__).resolve().parents[2]
_TOP_AND_HEAD = ("rev-parse", "--show-toplevel", "HEAD")


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


@lru_cache(maxsize=64)
def commit(root: Path = CHECKOUT, files: tuple[Path, ...] = ()) -> dict[str, str | bool | None]:
    """Return the checkout's commit, and whether files differ from it; None outside a checkout.

    An installed package that lies in a repository of something else is outside too.
    A checkout is dirty if a tracked file was edited, wherever it lies, if git is told to overlook
    edits of one, or if an untracked file lies among the code: a new method can be run before
    anyone adds it to git. Of the files that git is told to ignore only Python files count, so
    caches do not.

    Args:
        root: the checkout.
        files: plugins that ran, which must lie in it and be tracked too.
    """

    def git(*words: str) -> str | None:
        try:
            done = _git(root, *words)
        except OSError:
            return None
        return None if done.returncode else done.stdout.strip()

    top, _, head = (git(*_TOP_AND_HEAD) or "").rpartition("\n")
    if not _is(top, root):
        return {"commit": None, "dirty": None}
    python = [f":(glob){folder}/**/*.py" for folder in CODE]
    changes = (
        git("status", "--porcelain", "--untracked-files=no"),
        git("ls-files", "--others", "--exclude-standard", "--", *CODE),
        git("ls-files", "--others", "--", *python),
    )
    plugins = [str(file.resolve()) for file in files]
    tracked = not plugins or git("ls-files", "--error-unmatch", "--", *plugins) is not None
    # git marks files whose edits it overlooks by a small letter or an S.
    marks = git("ls-files", "-v", "--", *CODE, *(plugins if tracked else ()))
    overlooked = marks is None or any(
        line[0] == "S" or line[0].islower() for line in marks.split("\n") if line
    )
    # What git fails to answer (None) counts as a change: clean is a claim.
    dirty = any(change != "" for change in changes) or overlooked or not tracked
    return {"commit": head, "dirty": dirty}


def no_commit(root: Path = CHECKOUT) -> str:
    """Return why results made now name no commit, and what to do; empty where they name one."""
    try:
        done = _git(root, *_TOP_AND_HEAD)
    except OSError as error:
        return f"git cannot be run ({error.strerror}): install it"
    if not done.returncode:
        top = done.stdout.strip().rpartition("\n")[0]
        if _is(top, root):
            return ""
        return f"{root} lies in {top}, a checkout of something else: use a clone of the project"
    if "dubious ownership" in done.stderr:
        return (
            f"{root} belongs to another user, so git does not answer: git config --global --add "
            f"safe.directory {shlex.quote(str(root))}"
        )
    return f"{root} is no git checkout with a commit: use a clone of the project"


def _is(top: str, root: Path) -> bool:
    """Return whether git's top folder, empty for none, is ``root``."""
    return bool(top) and Path(top).resolve() == root.resolve()


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in its own words, English; file names may hold bytes that are no text."""
    return subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
