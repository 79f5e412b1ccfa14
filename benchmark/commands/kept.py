"""Whose weights a study keeps: what the command says, put in order before it starts."""

from __future__ import annotations

from rich.console import Console

from benchmark.commands.lines import say
from benchmark.running.setup import Asked
from benchmark.study import weights


def tidy_weights(console: Console, asked: Asked) -> None:
    """Leave the weights that are to be kept, and put aside those that are not as recorded."""
    study, keep = asked.study, keep_of(asked)
    if asked.options.keep:
        weights.remember(study.out, keep)
    for cell in asked.keys:
        for name in weights.set_aside(study, cell):
            say(console, f"{cell.place}: weights {name} are not those of their record; kept aside")
        weights.prune(study, cell, keep)


def made_again(asked: Asked) -> bool:
    """Return whether trainings are done again for weights that were not kept.

    That is asked for by saying ``--keep``: what it was before trains nothing twice.
    """
    keep = asked.options.keep
    return bool(keep and weights.lacking(asked.study, asked.keys, keep))


def keep_of(asked: Asked) -> weights.Keep:
    """Return whose weights are kept: what the command says, or what was said before."""
    said: weights.Keep | None = asked.options.keep
    return said or weights.kept_in(asked.study.out)
