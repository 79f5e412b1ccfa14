"""What a study calls a dataset: a name that ships, or your own images by what is in them.

``folder:../photos`` and ``folder:/home/me/photos`` may be the same images, and one path may hold
others tomorrow. So a dataset that is named by an argument is known by its digest: records, seeds
and folders carry :func:`identity`, tables carry the title, which adds a word that people know.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from benchmark.study import aliases
from protocols.discovery import Registry, split_name
from protocols.errors import UnknownNameError, unknown_name

_DIGITS = 8  # of the digest, shown in a title; cells are told apart by the whole digest
_CLOSE = 0.7  # a name so near to a dataset's is that name mistyped, not one of own images
_WHERE = "names of own images are known in the --root in which they were prepared"
_TITLE = re.compile(rf"[\w-]+:[\w.-]*@([0-9a-f]{{{_DIGITS}}})(?!\w)")


@dataclass(frozen=True)
class Data:
    """A dataset of a grid.

    Attributes:
        name: as it was asked for, which opens it: ``emoji``, ``folder:../photos``.
        title: as records and tables call it: ``emoji``, ``folder:photos@3fa9c1d2``.
        digest: over its images and labels.
    """

    name: str
    title: str
    digest: str


def find(
    names: Sequence[str], registry: Registry, root: Path | None, titles: Iterable[str] = ()
) -> list[Data]:
    """Return the datasets called ``names``, the same images once.

    Args:
        names: as on the command line.
        registry: knows the dataset files.
        root: where prepared datasets lie.
        titles: that a study uses already; images under one of them keep it, whatever their
            folder is called by now.

    Raises:
        UnknownNameError: a name that does not exist.
        DataError: a dataset that is missing.
    """
    known, found = {identity(title): title for title in titles}, dict[str, Data]()
    for asked in names:
        name = aliases.opened(asked, root)
        check_name(name, registry, root)
        digest = registry.load("dataset", name).digest(root)
        title = _title(name, digest, aliases.word_of(name, root))
        data = Data(name, known.get(identity(title), title), digest)
        found.setdefault(identity(title), data)
    return list(found.values())


def identity(title: str) -> str:
    """Return what seeds, cell ids and folders carry in place of ``title``; no path is in it."""
    own = _TITLE.fullmatch(title)
    return f"own-{own[1]}" if own else title


def store_key(title: str, digest: str) -> str:
    """Return what the names of the files prepared from a dataset's images begin with."""
    return re.sub(r"[^\w.-]+", "-", identity(title)) + f"-{digest[:12]}"


def by_identity(sentence: str) -> str:
    """Return a sentence with the identity of own images in place of each of their titles."""
    return _TITLE.sub(r"own-\1", sentence)


def called(title: str, name: str) -> bool:
    """Return whether people mean the dataset of ``title`` by ``name``.

    Own images are shown as ``csv:shop@8f8d7af8``; ``csv:shop`` and ``shop`` mean them too.
    """
    whole = title.rpartition("@")[0] if is_own(title) else title
    return name in (title, whole, whole.rpartition(":")[2] if is_own(title) else title)


def is_own(title: str) -> bool:
    """Return whether ``title`` stands for own images, which only a path opens."""
    return _TITLE.fullmatch(title) is not None


def check_name(name: str, registry: Registry, root: Path | None) -> None:
    """Raise UnknownNameError unless a dataset answers to ``name``.

    A path gets a hint, and so does a title, by which tables show own images and nothing opens them,
    and a name that is near to none: it may be one of own images, whose root is not the one given.
    """
    words = aliases.known(root)
    if is_own(name) and not Path(split_name(name)[1] or "").expanduser().exists():
        which = f": {', '.join(sorted(words))}" if words else ", which data prepare --name gives"
        raise UnknownNameError(
            f"{name} is how tables show images of your own, and no path or word that opens them. "
            f"Give the folder or file as it was prepared, like folder:photos, or its word{which}"
        )
    try:
        registry.check("dataset", name)
    except UnknownNameError as error:
        path = Path(name).expanduser()
        kind = "folder" if path.is_dir() else "csv" if path.is_file() else ""
        if kind and not (":" in name or name in registry.names("dataset")):
            raise UnknownNameError(
                f"{name} is a {kind if kind == 'folder' else 'file'}: say {kind}:{name}"
            ) from error
        if words:  # own images of this root are known by them
            known = {*registry.names("dataset"), *words}
            raise unknown_name("dataset", name, known) from error
        if ":" in name or get_close_matches(name, registry.names("dataset"), n=1, cutoff=_CLOSE):
            raise
        raise UnknownNameError(f"{_rootless(root)}, and {_WHERE}; {error}") from error


def _rootless(root: Path | None) -> str:
    """Return why no name of own images is known."""
    if root is None:
        return "no --root is given"
    where = f"--root {shlex.quote(str(root))}"
    if not root.is_dir():
        return f"{where} does not exist"
    return f"{where} holds no images of your own that have a name"


def _title(name: str, digest: str, word: str | None = None) -> str:
    stem, argument = split_name(name)
    if argument is None:
        return name
    if word is None:  # a title shows the folder itself, not a link to it
        path = Path(argument).expanduser().resolve()
        word = re.sub(r"[^\w.-]+", "-", path.name).strip("-.")
    return f"{stem}:{word[:40]}@{digest[:_DIGITS]}"
