"""Own images in a folder that holds a study of others under the same name."""

from __future__ import annotations

from rich.console import Console

from benchmark.commands.lines import say
from benchmark.running.setup import Asked
from benchmark.study.datasets import is_own


def say_replaced(console: Console, asked: Asked) -> None:
    """Say of own images that the folder's study of that name is of other ones.

    They may have been prepared again since; the former study does not go on with them. Of images
    that are asked for together nothing is said.
    """
    titles = dict.fromkeys(key.dataset for key in asked.keys if is_own(key.dataset))
    held = dict.fromkeys(cell.dataset for cell in asked.study.cells)
    for title in titles:
        word = title.rpartition("@")[0]
        others = [
            old for old in held if old not in titles and is_own(old) and old.startswith(f"{word}@")
        ]
        if others:
            say(
                console,
                f"{asked.study.out} holds a study of {', '.join(others)}, other images under this "
                f"name: it does not go on with {title}, which is a dataset beside it here. "
                "--out gives that a folder of its own",
            )
