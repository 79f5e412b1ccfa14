"""Which words a study's images and weights were last given by: records know them by content alone.

A command that is proposed later needs those words. They stand in a file of the folder that nothing
is computed from and that is never handed in; without it a proposal has DIR and FILE in their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmark.study import aliases, records
from protocols.errors import StoreError

FILE = "given.json"


@dataclass(frozen=True)
class Given:
    """The words, with whole paths, so that they hold wherever a command is run from.

    Attributes:
        datasets: by title: the name that opens it, such as ``folder:/home/me/photos``.
        roots: by title: where it lies prepared.
        weights: by what they add to a trunk's name: a file, or the name of a package or a set.
    """

    datasets: dict[str, str] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    def name_of(self, title: str) -> str | None:
        """Return what opens a dataset: the word that stands for it below its root, or its path."""
        name, root = self.datasets.get(title), self.roots.get(title)
        if name is None or root is None:
            return name
        return aliases.word_of(name, Path(root)) or name


def read(out: Path) -> Given:
    """Return what was given last in the folder ``out``, nothing if that was never written down.

    Raises:
        StoreError: the file is damaged.
    """
    path = out / FILE
    try:
        found = Given(**json.loads(path.read_text(encoding="utf-8")))
        for words in asdict(found).values():
            if not all(isinstance(text, str) for text in words.values()):
                raise TypeError("expected names with texts")
    except FileNotFoundError:
        return Given()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        words = f"{path} is damaged ({error}). Delete it: the next run writes it again"
        raise StoreError(words) from error
    return found


def remember(
    out: Path, datasets: Mapping[str, str], root: Path | None, weights: Mapping[str, str]
) -> None:
    """Write down the words of a command.

    Args:
        out: the study's folder.
        datasets: the name that opens each dataset, by title.
        root: where they lie prepared, None for datasets that ship.
        weights: a file or a name, by what it adds to a trunk's name.

    Raises:
        StoreError: the folder cannot be written, or what it holds is damaged.
    """
    before = read(out)
    roots = dict.fromkeys(datasets, str(root.resolve())) if root else {}
    files = {added: _whole(words) for added, words in weights.items()}
    after = Given(
        {**before.datasets, **{title: _opening(name) for title, name in datasets.items()}},
        {**before.roots, **roots},
        {**before.weights, **files},
    )
    if after != before:
        text = json.dumps(asdict(after), indent=1, sort_keys=True) + "\n"
        records.write_bytes(out / FILE, text.encode())


def _opening(name: str) -> str:
    """Return a dataset's name, the path of own images with all of it; a plugin's stays as it is."""
    return aliases.absolute(name) if name.startswith(("folder:", "csv:")) else name


def _whole(words: str) -> str:
    """Return a file with its whole path; the name of a package or of a set stays as it is."""
    path = Path(words).expanduser()
    return str(path.resolve()) if path.is_file() else words
