"""The command that measures a model or embeddings, and can put them in a study's table."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmark.commands.lines import counted, say, say_reading
from benchmark.commands.outputs import held_study
from benchmark.exit_codes import DONE
from benchmark.models import trained_on
from benchmark.models.images import Item, gather, place_of, read_list, settle
from benchmark.models.own_lists import about_rows
from benchmark.models.tested import test_images
from benchmark.report.gallery import class_names
from benchmark.statistics.bootstrap import MIN_CLASSES
from benchmark.study import checksums, references
from benchmark.study.datasets import called
from benchmark.study.folder import CellKey, Study
from benchmark.study.scores import NOTHING, label_of, per_cent
from protocols.datasets._own import LabelKind
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError, in_words
from protocols.partition import TESTS

if TYPE_CHECKING:
    from benchmark.models.description import Description
    from benchmark.models.evaluation import Scored


def evaluate(args: argparse.Namespace) -> int:
    """Score a model on images, or embeddings with labels; into a study's table if asked."""
    _check(args)
    rows, console = _rows(args) if args.what.suffix == ".npy" else None, Console()
    say_reading("the model" if rows is None else "the labels")
    if args.into is None:
        scored, by_angle = _alone(args, rows)
        _show(console, scored, by_angle=by_angle)
        return DONE
    # Held from the start: what was measured for minutes finds its place, and the study is as read.
    with held_study(args.into, console) as study:
        _add_reference(args, console, study, rows)
    return DONE


def _add_reference(
    args: argparse.Namespace, console: Console, study: Study, rows: NDArray[np.float32] | None
) -> None:
    """Score on a study's test images, print it, and put it into the study; its folder is held."""
    from benchmark.commands.run import write_outputs
    from benchmark.models import evaluation

    name = args.name or args.what.stem
    references.check_name(study, name)
    cell = _cell(study, args.dataset)
    scored, by_angle, size = _against(args, study, cell, Registry(tuple(args.plugin)), rows)
    _show(console, scored, by_angle=by_angle)
    row = evaluation.reference(study, cell, name, args.what, by_angle, size, scored)
    references.write(study, row)
    write_outputs(study)
    console.print(f"{name} stands as a reference in the tables and the report of {args.into}")


def _check(args: argparse.Namespace) -> None:
    """Raise InvalidInputError where options do not fit together."""
    embeddings = args.what.suffix == ".npy"
    if args.what.suffix == ".parquet":
        target = args.what.with_suffix(".npy").name
        raise InvalidInputError(
            f"{args.what}: embeddings are read from a .npy file, with their labels in a CSV beside "
            f"it. Write them so: embed MODEL IMAGES --to {shlex.quote(target)}"
        )
    if embeddings and args.images:
        raise InvalidInputError(f"{args.what} holds embeddings already: leave the images out")
    if not embeddings and args.compare:
        raise InvalidInputError("--compare is for embeddings; a model says it in its description")
    file, kind = _labels_said(args)
    if not embeddings and file is not None:
        raise InvalidInputError("--labels is for embeddings; a model gets a CSV in place of images")
    if not embeddings and args.into is None and not args.images:
        raise InvalidInputError(
            "say on which images: folders or a CSV with path,label, or --into a study's folder"
        )
    if args.into is not None and args.images:
        raise InvalidInputError(
            "--into measures on the study's own test images: leave the images out"
        )
    if kind is not None and not embeddings and not args.images:
        raise InvalidInputError(
            f"--labels {kind} is for lists of images and for embeddings, and there are none here"
        )
    if args.class_level and not args.images:
        raise InvalidInputError("--class-level is for folders of images, and there are none here")
    if args.into is None and (args.name or args.dataset):
        raise InvalidInputError("--name and --dataset are of a row: say --into a study's folder")


def _rows(args: argparse.Namespace) -> NDArray[np.float32]:
    """Return the embeddings in a .npy file; it is read without running code."""
    try:
        found = np.load(args.what, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{args.what}: no file of embeddings ({error})") from error
    if found.ndim != 2 or found.dtype.kind != "f":
        raise DataError(
            f"{args.what}: {found.dtype} of shape {found.shape}, expected float (N, D) embeddings"
        )
    rows: NDArray[np.float32] = found.astype(np.float32)
    return rows


def _by_angle(args: argparse.Namespace) -> bool:
    """Return how embeddings are compared: as asked, else as ``embed`` wrote beside them."""
    about = about_rows(args.what)
    if args.compare or not about.is_file():
        return bool(args.compare != "distance")
    try:
        rule = json.loads(about.read_text(encoding="utf-8"))["compare"]
        if rule not in ("angle", "distance"):
            raise ValueError(f"compare {rule!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{about}: expected what embed writes, met {in_words(error)}. Say --compare angle or "
            "--compare distance"
        ) from error
    return bool(rule == "angle")


def _labels_said(args: argparse.Namespace) -> tuple[Path | None, LabelKind | None]:
    """Return the list and the reading that --labels says, of which it may say both.

    Raises:
        InvalidInputError: it says several of one kind.
    """
    kinds = [word for word in args.labels if word in get_args(LabelKind)]
    files = [word for word in args.labels if word not in kinds]
    if len(kinds) > 1 or len(files) > 1:
        raise InvalidInputError(
            f"--labels {', '.join(args.labels)}: expected one file and one of "
            f"{', '.join(get_args(LabelKind))} at most"
        )
    file = place_of(Path(files[0]))[1] if files else None
    return file, next(iter(kinds), None)


def _labelled(args: argparse.Namespace, kind: LabelKind | None) -> list[Item]:
    """Return what the list of labels says of each embedding, labels read as ``kind``."""
    path = _labels(args)
    (items,) = settle([(path, read_list(path))], kind)
    return items


def _labels(args: argparse.Namespace) -> Path:
    path: Path = _labels_said(args)[0] or args.what.with_suffix(".csv")
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. Embeddings need a CSV with path,label, a line for each row, "
            "beside them or as --labels"
        )
    return path


def _alone(args: argparse.Namespace, rows: NDArray[np.float32] | None) -> tuple[Scored, bool]:
    from benchmark.models import evaluation
    from benchmark.models.model import embed_items, load

    if rows is not None:
        by_angle = _by_angle(args)
        items = _labelled(args, _labels_said(args)[1])
        evaluation.check_as_many(rows, items)
        evaluation.check_roles(items)
        at = _tested(items)
        return evaluation.score_items(rows[at], [items[n] for n in at], by_angle=by_angle), by_angle
    items = gather(args.images, args.class_level, _labels_said(args)[1])
    evaluation.check_roles(items)
    items = [items[n] for n in _tested(items)]
    model = load(args.what, Registry(tuple(args.plugin)))
    by_angle, rows = model.description.by_angle, embed_items(model, items)
    _say_trained(model.description, items)
    return evaluation.score_items(rows, items, by_angle=by_angle), by_angle


def _say_trained(told: Description, items: Sequence[Item]) -> None:
    """Say to standard error how many of the images a model was trained on, if it is known."""
    met = trained_on.count(told, (checksums.of_file(item.path) for item in items))
    if met is None:
        print(trained_on.UNKNOWN, file=sys.stderr)
    elif met:
        print(
            f"{met:,} of these {counted(len(items), 'image')} were trained on: the score is too "
            "high for new ones",
            file=sys.stderr,
        )


def _check_new(args: argparse.Namespace, told: Description, study: Study, cell: CellKey) -> None:
    """Raise InvalidInputError where a model was trained on some of the study's test images."""
    met = trained_on.count_tests(told, study, cell)
    if met is None:
        print(trained_on.UNKNOWN, file=sys.stderr)
    elif met[0]:
        raise InvalidInputError(
            f"{args.what} was trained on {met[0]:,} of the {met[1]:,} test images of "
            f"{cell.dataset}: its number cannot stand beside those of models that were not. Use a "
            "model that was trained on other images"
        )


def _tested(items: Sequence[Item]) -> list[int]:
    """Return which images are scored: where some are named as tests, these alone; else all."""
    at = [number for number, item in enumerate(items) if item.part in TESTS]
    if not at:
        return list(range(len(items)))
    if others := Counter(item.part for item in items if item.part not in TESTS):
        said = ", ".join(f"{count:,} of {part}" for part, count in sorted(others.items()))
        say(Console(), f"passed over, being no tests: {said}")
    return at


def _against(
    args: argparse.Namespace,
    study: Study,
    cell: CellKey,
    registry: Registry,
    rows: NDArray[np.float32] | None,
) -> tuple[Scored, bool, int]:
    """Return what was scored on the study's test images, how compared, and the embedding's size."""
    from benchmark.models import evaluation
    from benchmark.models.model import load

    evaluation.use_threads(study)
    if rows is None:
        model = load(args.what, registry)
        by_angle = model.description.by_angle
        test = test_images(study, cell, registry)
        _check_new(args, model.description, study, cell)
        rows = evaluation.embed_split(model, test)
    else:
        by_angle = _by_angle(args)
        # The dataset has the names: a label is one of them or none, so nothing is to be asked.
        items = _labelled(args, _labels_said(args)[1] or "text")
        if len(items) != len(rows):
            raise InvalidInputError(
                f"{len(rows)} embeddings for {len(items)} lines of labels: expected as many"
            )
        evaluation.check_roles(items)
        names = class_names(study.out, cell.dataset, references.digest_of(study, cell))
        test = evaluation.check_same_images(items, test_images(study, cell, registry), names)
    scored = evaluation.score_split(rows, test, cell.dataset, by_angle=by_angle)
    return scored, by_angle, rows.shape[1]


def _cell(study: Study, dataset: str | None) -> CellKey:
    """Return a cell of the dataset whose test images are meant."""
    known = list(dict.fromkeys(cell.dataset for cell in study.cells))
    wanted = [name for name in known if dataset is None or called(name, dataset)]
    if len(wanted) != 1:
        met = "" if dataset is None else f" {dataset!r} is not one of its datasets"
        raise InvalidInputError(f"--dataset{met}: say which of {', '.join(known)}")
    return next(cell for cell in study.cells if cell.dataset == wanted[0])


def _show(console: Console, scored: Scored, *, by_angle: bool) -> None:
    table = Table("metric", "per cent", "over classes (95 %)")
    for name, value in scored.metrics.items():
        ends = NOTHING
        if name in scored.low:
            ends = f"{per_cent(scored.low[name])} to {per_cent(scored.high[name])}"
        table.add_row(label_of(name), per_cent(value), ends)
    console.print(table, highlight=False)
    left_out = f", {scored.excluded} without another image of their class" * bool(scored.excluded)
    console.print(
        f"{counted(scored.queries, 'query', 'queries')} of "
        f"{counted(scored.classes, 'class', 'classes')}{left_out}, compared by "
        f"{'angle' if by_angle else 'distance'}; {_said_of_intervals(scored)}",
        highlight=False,
    )


def _said_of_intervals(scored: Scored) -> str:
    if scored.low:
        return "intervals: how far a number would move with other classes"
    return f"no intervals over classes: {MIN_CLASSES} classes needed"
