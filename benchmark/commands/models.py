"""The commands that use a model: export, embed, index, search, evaluate."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmark.commands.lines import counted, say, say_reading
from benchmark.commands.outputs import open_study
from benchmark.commands.proposal import continuing_command
from benchmark.exit_codes import DONE
from benchmark.models.address import Address, find
from benchmark.models.description import check_ending
from benchmark.models.images import Item, gather, place_of
from benchmark.models.own_lists import LABELS_SUM, about_rows
from benchmark.study import checksums
from benchmark.study.folder import Study
from benchmark.study.records import write_bytes
from benchmark.study.weights import best_run
from protocols.decoding import shown
from protocols.discovery import Registry
from protocols.errors import InvalidInputError
from protocols.names import one_line

SHOWN = 10  # queries that are printed; the table has all
ANSWERS = 5  # of each of them that are printed


def export(args: argparse.Namespace) -> int:
    """Write a kept model of a study to one file, and say how near it is to what was recorded."""
    check_ending(args.to)
    study, registry = open_study(args.out), Registry(tuple(args.plugin))
    address = find(study, args.run)
    say_reading("the weights")
    from benchmark.models import export as exporting

    exporting.check_target(args.to)
    remake = remaking_command(study, address, args.plugin)
    done = exporting.export(study, address, args.to, registry, remake)
    told, console = done.description, Console()
    folds = "fold" if len(address.folds) == 1 else "folds"
    joined = f"{len(address.folds)} {folds} {'joined' if address.joined else 'alone'}"
    lines = [
        f"{address.text}: seed {address.run.seed}, {joined}, {told.size} numbers an image",
        "test images embed as recorded: " + _difference(done.recorded)
        if done.recorded is not None
        else "not compared with what was recorded: the test images cannot be opened here",
        f"{args.to.name} against the model it was made from: {_difference(done.exported)}",
        *(["it takes one image at a time: its network fixes the number"] * (told.batch == 1)),
        f"model    {args.to}",
        f"about it {args.to}.json, and a model card, {args.to.name}.md",
    ]
    for line in lines:
        say(console, line)
    return DONE


def embed(args: argparse.Namespace) -> int:
    """Write the embeddings of images, with their paths."""
    if args.to.suffix not in (".npy", ".parquet"):
        raise InvalidInputError(f"--to {args.to}: expected a name that ends in .npy or .parquet")
    if args.to.suffix == ".npy":
        _check_own(args.to, args.to.with_suffix(".csv"), args.images)
    items = gather(args.images, args.class_level, args.labels)
    say_reading("the model")
    from benchmark.models.model import embed_items, load

    model = load(args.model, Registry(tuple(args.plugin)))
    rows = embed_items(model, items)
    rule = "angle" if model.description.by_angle else "distance"
    for path in _write_rows(args.to, items, rows, rule):
        print(path)
    print(f"{counted(len(items), 'image')}, {rows.shape[1]} numbers each, compared by {rule}")
    return DONE


def index(args: argparse.Namespace) -> int:
    """Make a gallery of images that can be searched."""
    from benchmark.models import index as galleries

    _check_own(args.to / galleries.VECTORS, args.to / galleries.IMAGES, args.images)
    items = gather(args.images, args.class_level, args.labels)
    say_reading("the model")
    from benchmark.models.model import embed_items, load

    model = load(args.model, Registry(tuple(args.plugin)))
    rows = embed_items(model, items)
    galleries.write(args.to, args.model, model.description, items, rows)
    print(f"{counted(len(items), 'image')} in {args.to}, {rows.shape[1]} numbers each")
    print(f"next     python -m benchmark search {shlex.quote(str(args.to))} IMAGES")
    return DONE


def search(args: argparse.Namespace) -> int:
    """Find the gallery images nearest to each query: as a table and as a page of pictures."""
    from benchmark.models import index as galleries

    table, page = args.to / "answers.csv", args.to / "answers.html"
    _check_own(page, table, args.images)
    gallery = galleries.read(args.gallery)
    path, about = args.model or Path(gallery.about.model), gallery.about
    if args.model is None and not path.is_file():
        raise InvalidInputError(
            f"{path}, the model that embedded {args.gallery}, is not there any more. If it was "
            "moved, say where it is now: --model FILE"
        )
    queries = gather(args.images, args.class_level, args.labels)
    say_reading("the model")
    from benchmark.models import answers
    from benchmark.models.model import embed_items, load

    model = load(path, Registry(tuple(args.plugin)))
    if checksums.of_file(path) != about.model_sha256:
        raise InvalidInputError(
            f"{path} is not the model that embedded {args.gallery}: make the gallery again with it"
        )
    asked = answers.search(gallery, queries, embed_items(model, queries), args.top)
    write_bytes(page, answers.to_html(about, asked))
    write_bytes(table, answers.to_csv(about, asked))
    print(f"rank, {answers.near_word(about)}, image")
    for one in asked[:SHOWN]:
        print(_named(one.query))
        for answer in one.answers[:ANSWERS]:
            print(f"{answer.rank:>4} {answer.near:8.3f}  {_named(answer.item)}")
    most = max(len(one.answers) for one in asked)
    if most > ANSWERS:
        print(f"the first {ANSWERS} of {most} answers each; all are in answers.csv")
    if len(asked) > SHOWN:
        print(f"the first {SHOWN} of {len(asked)} queries; all are in answers.csv")
    print(f"table    {table}")
    print(f"pictures {page}")
    return DONE


def _check_own(first: Path, second: Path, images: Sequence[Path]) -> None:
    """Raise InvalidInputError where ``second`` is there and not this program's to write over.

    The two are written one after the other: a second without a first is somebody's own list, and
    so is one that lists the images of this very command.
    """
    listed = second.resolve() in {place_of(path)[1].resolve() for path in images}
    if listed or (second.exists() and not first.exists()):
        why = "lists the images here" if listed else f"has no {first.name} beside it"
        raise InvalidInputError(
            f"{second}, which {why} and so is a file of your own, would be written over. Choose "
            "another --to"
        )


def remaking_command(study: Study, address: Address, plugins: Sequence[Path] = ()) -> str:
    """Return the command that keeps the weights of a run, and trains them again if need be."""
    cell, best = address.cell, best_run(study, address.cell)
    keep = "best" if best and best.seed == address.run.seed else "all"
    axes: dict[str, Sequence[str]] = {
        "methods": (cell.method,),
        "datasets": (cell.dataset,),
        "trunks": (cell.trunk.partition("+")[0],),
        "recipes": (cell.recipe,),
        "keep": (keep,),
    }
    if cell.repeat:
        axes["search-repeats"] = (str(cell.repeat + 1),)
    return continuing_command(study, study.out, axes, cell, plugins)


def _write_rows(
    to: Path, items: Sequence[Item], rows: NDArray[np.float32], rule: str
) -> list[Path]:
    """Write embeddings with paths and how they are compared.

    That is a .npy with two files beside it, or one parquet file. The two are a .csv of the paths,
    and a .json of the rule and of the checksum by which the .csv is known as written here.
    """
    from benchmark.models.index import table

    if to.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        beside = to.with_suffix(".csv")
        about = about_rows(to)
        write_bytes(to, buffer.getvalue())
        write_bytes(beside, table(items))
        told = {"compare": rule, LABELS_SUM: checksums.of_file(beside)}
        write_bytes(about, (json.dumps(told) + "\n").encode())
        return [to, beside, about]
    write_bytes(to, _parquet(items, rows, rule))
    return [to]


def _parquet(items: Sequence[Item], rows: NDArray[np.float32], rule: str) -> bytes:
    """Return embeddings as a parquet file, how they are compared in its schema's metadata.

    Its texts are UTF-8, so bytes of a file's name that are no text stand as their escapes.
    """
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidInputError("parquet needs the package pyarrow: pip install pyarrow") from error
    columns: dict[str, Any] = {"path": [shown(item.path.resolve()) for item in items]}
    for name in ("label", "part"):
        words = [getattr(item, name) for item in items]
        if any(words):
            columns[name] = [word.encode("utf-8", "backslashreplace").decode() for word in words]
    table = arrow.table({**columns, "embedding": list(rows)}).replace_schema_metadata(
        {"compare": rule}
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _difference(share: float) -> str:
    return (
        "the same bits" if share == 0 else f"largest difference {share:.0e} of the largest number"
    )


def _named(item: Item) -> str:
    """Return an image's path from here, and its class where one is known."""
    path = Path(os.path.relpath(item.path))
    name = shown(item.path if path.parts[:1] == ("..",) else path)
    return one_line(f"{name} ({item.label})" if item.label else name)
