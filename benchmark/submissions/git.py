"""What git knows about results/: which commits exist, and which files were edited."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from protocols.errors import InvalidInputError

MAX_SOURCE = 1 << 20  # bytes of a source file that is looked at


@dataclass(frozen=True)
class History:
    """A git checkout.

    Attributes:
        folder: where git is asked; paths are relative to it.
        shallow: whether earlier commits were left out of the clone.
    """

    folder: Path
    shallow: bool

    @cached_property
    def commits(self) -> frozenset[str]:
        """Return the current commit and all before it, asked for once."""
        return frozenset((_git(self.folder, "rev-list", "HEAD") or "").split())

    def has(self, commit: str) -> bool:
        """Return whether ``commit`` (40 hex digits) is the current commit or one before it."""
        return commit in self.commits

    def named(self, commit: str, name: str) -> list[str]:
        """Return the files called ``name``, in whatever folder of ``commit``, from its root."""
        listed = _git(self.folder, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        return [p for p in (listed or "").split("\0") if p.rpartition("/")[2] == name]

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

    def holding(self, path: str) -> str:
        """Return the last commit that wrote a file below ``path``; empty where none did.

        It is found where the current commit has the files, and where they have been removed since.
        """
        words = ("log", "-1", "--diff-filter=AM", "--format=%H", "--", path)
        return (_git(self.folder, *words) or "").strip()

    def first_days(self, path: str) -> dict[str, str]:
        """Return the contents that ``path`` ever had: git's hash to the day of the first commit."""
        words = ("--format=%cs", "--raw", "--no-abbrev", "-m", "--full-history", "--", path)
        found, day = dict[str, str](), ""
        for line in (_git(self.folder, "log", *words) or "").splitlines():
            if line.startswith(":"):
                content = line.split()[3]
                found[content] = min(day, found.get(content, day))
            elif line:
                day = line
        return found

    def merge_base(self, ref: str, commit: str = "HEAD") -> str:
        """Return the commit at which ``commit``, or the current one, left ``ref``.

        Raises:
            InvalidInputError: there is none.
        """
        found = _git(self.folder, "merge-base", "--end-of-options", ref, commit)
        if found is None:
            raise InvalidInputError(f"git finds nothing in common with {ref!r}; fetch it first")
        return found.strip()

    def changed(self, old: str, new: str, folders: Sequence[str]) -> list[str]:
        """Return the files of ``old`` below ``folders`` that ``new`` has otherwise, or lacks.

        Folders and files are named from the root of the checkout.
        """
        words = ("diff", "--name-only", "-z", "--no-renames", "--diff-filter=a", "--no-relative")
        below = [f":(top){folder}" for folder in folders]
        listed = _git(self.folder, *words, "--end-of-options", old, new, "--", *below)
        return [path for path in (listed or "").split("\0") if path]


@dataclass
class Objects:
    """Contents out of git, all from one process that is asked line by line; used in a ``with``.

    Attributes:
        folder: a folder of the checkout.
    """

    folder: Path
    _process: subprocess.Popen[bytes] | None = None
    _known: dict[str, str | None] = field(default_factory=dict)

    def __enter__(self) -> Objects:
        words = ["git", "-C", str(self.folder), "cat-file", "--batch"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.communicate()

    def text(self, name: str) -> str | None:
        """Return what git calls ``name``, like ``COMMIT`` or ``COMMIT:protocols/method.py``.

        Paths begin at the root of the checkout. None where there is no such object, or it is
        larger than a source file may be, or no UTF-8.
        """
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def _ask(self, name: str) -> str | None:
        assert self._process
        to_git, from_git = self._process.stdin, self._process.stdout
        assert to_git
        assert from_git
        to_git.write(f"{name}\n".encode())
        to_git.flush()
        answer = from_git.readline().split()
        if len(answer) != 3 or not answer[2].isdigit():
            return None  # "NAME missing", and nothing follows
        size = int(answer[2])
        content = _read(from_git, size)
        if answer[1] not in (b"blob", b"commit") or len(content) < size:
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return None


def _read(stream: IO[bytes], size: int) -> bytes:
    """Return an object of ``size`` bytes and take its last newline; nothing of one too large."""
    content = stream.read(size) if size <= MAX_SOURCE else b""
    left = size - len(content)
    while left > 0:
        left -= len(stream.read(min(left, MAX_SOURCE))) or left
    stream.read(1)
    return content


def find(folder: Path) -> History | None:
    """Return the checkout around ``folder``, None if there is none or it has no commit."""
    if _git(folder, "rev-parse", "--verify", "HEAD") is None:
        return None
    return History(folder, _git(folder, "rev-parse", "--is-shallow-repository") == "true\n")


def user(folder: Path) -> str:
    """Return whose name git puts into commits made in ``folder``; empty where it knows none."""
    return (_git(folder, "config", "user.name") or "").strip()


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
