"""What to run next: the command that was typed, with one thing changed."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmark.commands.own_folder import FOLDER
from benchmark.running.setup import Asked
from benchmark.study import given, grid
from benchmark.study.datasets import is_own
from benchmark.study.folder import CellKey, Study
from benchmark.study.lost import lost_in
from protocols import paper
from protocols.discovery import Registry
from protocols.errors import BenchmarkError, UnknownNameError
from protocols.protocol import shown

ONCE = ("help", "dry_run", "retry_failed")  # of the command that was typed, not of the next one
WORDS = ("trials", "seeds", "params", "bounds", "precision")  # options of their own
AXES = ("dataset", "trunk", "recipe", "method")


def next_command(asked: Asked) -> str:
    """Return a command that leads on from here, under the same rules.

    Rows of the folder that are not finished come first: another command asked for them. Then
    comes what the machine lost, unless this command has just tried it again; then a method that
    has no row yet, and where there is none, more seeds.
    """
    options = asked.options
    if unfinished := _unfinished(asked):
        return run_command(options, **_completing(unfinished, asked))
    if not options.retry_failed and (lost := _lost(asked)):
        return run_command(options, **_completing(lost, asked), retry_failed=True)
    if method := _another_method(asked):
        # The searches are not repeated: a method without hyperparameters would refuse that.
        return run_command(options, methods=(method,), search_repeats=1)
    return run_command(options, seeds=asked.study.protocol.seeds + 2)


def run_command(options: argparse.Namespace, **changes: Any) -> str:
    """Return the command line that parses to ``options`` with some of them changed.

    Options that have their default are left out.
    """
    words = ["python", "-m", "benchmark", "run"]
    for action in options.parser._actions:
        once = action.dest in ONCE
        kept = action.default if once else getattr(options, action.dest, action.default)
        value = changes.get(action.dest, kept)
        usual = [action.default]
        if action.dest == "out" and action.default is None:
            usual.append(FOLDER)  # what it came to
        if value not in usual:
            words += _words(action, value)
    return shlex.join(words)


def continuing_command(
    study: Study | None,
    out: Path,
    axes: Mapping[str, Sequence[str]],
    cell: CellKey | None = None,
    plugins: Sequence[Path] = (),
) -> str:
    """Return the command that adds to a study under its rules, ``reality-check``'s without one.

    Where datasets and weights lie is what the study's folder was given last; PATH, DIR and FILE
    stand for what was never written down there.

    Args:
        study: whose rules.
        out: the folder that the command adds to.
        axes: options with names: ``datasets`` by their titles, ``methods`` and so on.
        cell: of the study, whose weights it takes; its first one if none is named.
        plugins: files that it needs.
    """
    words = ["python", "-m", "benchmark", "run"]
    words += _rules(study, axes) if study else ["--protocol", "reality-check"]
    known = given.read(study.out) if study else given.Given()
    if added := _weights(study, cell, known):
        words += ["--weights", added]
    words += [word for plugin in plugins for word in ("--plugin", str(plugin))]
    titles = axes.get("datasets", ())
    if any(map(_is_prepared, titles)):
        words += ["--root", next((known.roots[t] for t in titles if t in known.roots), "DIR")]
    for axis, names in axes.items():
        typed = [_opening(name, known) for name in names] if axis == "datasets" else names
        words += [f"--{axis}", ",".join(typed)]
    return shlex.join([*words, "--out", str(out)])


def remember_words(asked: Asked) -> None:
    """Write down by which words this command opens its images and weights."""
    names = {title: source.name for title, source in asked.sources.items()}
    added = {cell.trunk.partition("+")[2] for cell in asked.keys} - {""}
    weights = dict.fromkeys(added, str(asked.options.weights))
    given.remember(asked.study.out, names, asked.options.root, weights)


def _rules(study: Study, axes: Collection[str]) -> Iterator[str]:
    """Yield the options that lead to the study's rules, but for ``axes``, which are said anyway."""
    yield from ("--protocol", study.protocol.name)
    for name, value in study.protocol.overrides.items():
        if f"{name}s" in axes:
            continue
        if name in ("oracle_gap", "match_cost"):
            yield f"--{name.replace('_', '-')}"
        elif name not in (*WORDS, *AXES):
            yield from ("--set", f"{name}={shown(value)}")
        else:
            yield from (f"--{name}s" if name in AXES else f"--{name}", str(value))


def _weights(study: Study | None, cell: CellKey | None, known: given.Given) -> str:
    """Return which weights a cell's trunk has, empty where they need no word.

    Of a file a study knows the checksum, which opens nothing: FILE stands for one that is not
    written down.
    """
    if study is None:
        return "FILE"
    cell = cell or next(iter(study.cells), None)
    added = cell.trunk.partition("+")[2] if cell else "FILE"
    if not added:
        return "none" if study.protocol.wants_weights else ""
    nameless = "FILE" if re.fullmatch(r"[0-9a-f]{8}", added) else added
    return known.weights.get(added, nameless)


def _opening(title: str, known: given.Given) -> str:
    """Return the name that opens a dataset; own images that were given nowhere get a PATH."""
    if not is_own(title):
        return title
    return known.name_of(title) or f"{title.partition(':')[0]}:PATH"


def _is_prepared(dataset: str) -> bool:
    """Return whether a dataset lies where ``data prepare`` has put it, and not with the code."""
    registry = Registry()
    known = dataset in registry.names("dataset")
    return is_own(dataset) or (known and hasattr(registry.load("dataset", dataset), "OFFICIAL"))


def _words(action: argparse.Action, value: Any) -> Iterator[str]:
    """Yield how an option is typed: once, or as often as it holds values."""
    if not action.option_strings:  # the study file
        yield str(value)
        return
    name = action.option_strings[0]
    if action.nargs == 0:
        yield name
    elif isinstance(value, list):
        for one in value:
            text = f"{one[0]}={shown(one[1])}" if isinstance(one, tuple) else str(one)
            yield from (name, text)
    else:
        yield from (name, ",".join(value) if isinstance(value, tuple) else str(value))


def _unfinished(asked: Asked) -> list[CellKey]:
    """Return the unfinished rows that the command's plugins, weights and own images reach."""
    plans = grid.progress_of(asked.study, asked.study.all_cells)
    return [plan.cell for plan in plans if not plan.ended and _reached(plan.cell, asked)]


def _lost(asked: Asked) -> list[CellKey]:
    """Return the rows within reach of which the machine lost something."""
    study = asked.study
    return [c for c in study.all_cells if _reached(c, asked) and lost_in(study, c)]


def _reached(cell: CellKey, asked: Asked) -> bool:
    """Return whether the command's plugins, weights and own images lead to the cell."""
    return (
        cell.trunk.partition("+")[2] in _suffixes(asked)
        and (cell.dataset in asked.sources or not is_own(cell.dataset))
        and all(_is_known(asked.registry, axis, _name(cell, axis, asked)) for axis in AXES)
    )


def _suffixes(asked: Asked) -> set[str]:
    """Return what the weights in use add to the trunks' names."""
    return {key.trunk.partition("+")[2] for key in asked.keys}


def _completing(unfinished: Sequence[CellKey], asked: Asked) -> dict[str, Any]:
    """Return the axes that name unfinished rows: all of them, or those beside the first.

    Axes make a grid, and one command must not add a cell that nobody asked for.
    """
    names = _axes(unfinished, asked)
    known = {tuple(_name(cell, axis, asked) for axis in AXES) for cell in asked.study.cells}
    if not set(product(*names.values())) <= known:
        first = [cell for cell in unfinished if cell.axes[:3] == unfinished[0].axes[:3]]
        names = _axes(first, asked)
    repeats = 1 + max(cell.repeat for cell in unfinished)
    return {**{f"{axis}s": found for axis, found in names.items()}, "search_repeats": repeats}


def _axes(cells: Sequence[CellKey], asked: Asked) -> dict[str, tuple[str, ...]]:
    return {axis: tuple(dict.fromkeys(_name(cell, axis, asked) for cell in cells)) for axis in AXES}


def _name(cell: CellKey, axis: str, asked: Asked) -> str:
    """Return a cell's name on an axis as it is typed: a trunk without its weights.

    Own images are typed by a path; those of another command's have none here and keep the title,
    see :func:`_unfinished`.
    """
    name: str = getattr(cell, axis)
    if axis == "dataset" and name in asked.sources:
        return asked.sources[name].name
    return name.partition("+")[0] if axis == "trunk" else name


def _is_known(registry: Registry, kind: str, name: str) -> bool:
    try:
        registry.check(kind, name)
    except BenchmarkError:
        return False
    return True


def _another_method(asked: Asked) -> str | None:
    """Return a method without a row in this folder, None if all have one."""
    used = {cell.method for cell in asked.study.cells}
    others = (name for name in asked.registry.names("method") if name not in used)
    return next((name for name in others if _can_run(name, asked.study, asked)), None)


def _can_run(method: str, study: Study, asked: Asked) -> bool:
    """Return whether the rules let the method run: published settings are not of all methods."""
    if study.protocol.params != "published":
        return True
    try:
        batch = study.protocol.batch_size
        return all(paper.best(method, dataset, batch) for dataset in asked.sources)
    except UnknownNameError:
        return False
