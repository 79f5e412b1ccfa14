"""What git knows about results/: which commits exist, and which files were edited."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import InvalidInputError


@dataclass(frozen=True)
class History:
    """A git checkout.

    Attributes:
        folder: where git is asked; paths are relative to it.
        shallow: whether earlier commits were left out of the clone.
    """

    folder: Path
    shallow: bool

    def has(self, commit: str) -> bool:
        """Return whether ``commit`` (40 hex digits) is the current commit or one before it."""
        return _git(self.folder, "merge-base", "--is-ancestor", commit, "HEAD") is not None

    def files(self, ref: str) -> dict[str, str]:
        """Return the files below the folder at ``ref``: path to git's hash of the content.

        Raises:
            InvalidInputError: ``ref`` names no commit.
        """
        listed = _git(self.folder, "ls-tree", "-r", "-z", "--end-of-options", ref, "--", ".")
        if listed is None:
            raise InvalidInputError(f"git knows no commit {ref!r}; name a branch or a commit")
        entries = (entry.split("\t", 1) for entry in listed.split("\0") if entry)
        return {path: about.split()[2] for about, path in entries}

    def merge_base(self, ref: str) -> str:
        """Return the commit at which the current one left ``ref``.

        Raises:
            InvalidInputError: there is none.
        """
        found = _git(self.folder, "merge-base", "--end-of-options", ref, "HEAD")
        if found is None:
            raise InvalidInputError(f"git finds nothing in common with {ref!r}; fetch it first")
        return found.strip()


def find(folder: Path) -> History | None:
    """Return the checkout around ``folder``, None if there is none or it has no commit."""
    if _git(folder, "rev-parse", "--verify", "HEAD") is None:
        return None
    return History(folder, _git(folder, "rev-parse", "--is-shallow-repository") == "true\n")


def blob(content: bytes) -> str:
    """Return git's hash of a file with ``content``."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints, None where it refuses or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape")


def said_of(history: History | None) -> str:
    """Return in one line whether commits and earlier versions were looked up."""
    if history is None:
        return "no git repository here: commits and earlier versions were not looked up"
    if history.shallow:
        return "a shallow clone: commits were not looked up; git fetch --unshallow"
    return "commits and earlier versions were looked up in git"
