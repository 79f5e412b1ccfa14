"""Options of the commands that use a model: export, embed, index, search, evaluate."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Parsers = Any  # argparse's own type of what holds subcommands is private
Adder = Callable[[Parsers, str, str, str, str], argparse.ArgumentParser]


def add(
    commands: Parsers, adder: Adder, whole: Callable[[str], int], plugin: Callable[[Any], None]
) -> None:
    """Add the commands; ``adder`` makes one, ``plugin`` gives it that option.

    ``whole`` reads a number of 1 or more.
    """
    exported = adder(commands, "export", "a study's model as one file", "models", "export")
    exported.add_argument(
        "run", metavar="RUN", help="a method (its best seed, folds joined), ms/seed-0/fold-1, …"
    )
    _to(exported, "FILE", "name.safetensors, name.pt2 (torch.export) or name.onnx")
    exported.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="the study's folder (runs/)"
    )
    embedded = adder(commands, "embed", "compute a model's embeddings of images", "models", "embed")
    _model(embedded)
    _images(embedded, whole)
    _to(embedded, "FILE", "name.npy, with the paths in name.csv, or name.parquet")
    indexed = adder(commands, "index", "a gallery of images to search", "models", "index")
    _model(indexed)
    _images(indexed, whole)
    _to(indexed, "DIR", "folder of the gallery")
    searched = adder(commands, "search", "gallery images nearest to others", "models", "search")
    searched.add_argument("gallery", type=Path, metavar="GALLERY", help="a folder made by index")
    _images(searched, whole)
    searched.add_argument("--top", type=whole, default=10, metavar="N", help="default: 10")
    searched.add_argument(
        "--model",
        type=Path,
        metavar="MODEL",
        help="where the gallery's model is now, if it was moved",
    )
    searched.add_argument(
        "--to", type=Path, default=Path("answers"), metavar="DIR", help="default: answers/"
    )
    measured = _evaluate(commands, adder, whole)
    for parser in (embedded, indexed, searched):
        parser.add_argument(
            "--labels",
            choices=("text", "number"),
            help="in lists: are 1 and 001 two classes or one?",
        )
    for parser in (exported, embedded, indexed, searched, measured):
        plugin(parser)


def _evaluate(
    commands: Parsers, adder: Adder, whole: Callable[[str], int]
) -> argparse.ArgumentParser:
    measured = adder(
        commands, "evaluate", "scores of a model or of embeddings", "evaluation", "evaluate"
    )
    measured.add_argument("what", type=Path, metavar="MODEL|FILE.npy", help="a model or embeddings")
    _images(measured, whole, "*")
    measured.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="CSV|text|number",
        help="path,label of each embedding; or: are 1 and 001 two classes or one?",
    )
    measured.add_argument(
        "--compare", choices=("angle", "distance"), help="of embeddings; default: angle"
    )
    measured.add_argument(
        "--into", type=Path, metavar="DIR", help="measure on a study's test images, as a reference"
    )
    measured.add_argument("--dataset", metavar="NAME", help="which of the study's")
    measured.add_argument("--name", help="of the reference row; default: the file's")
    return measured


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file made by export")


def _images(parser: argparse.ArgumentParser, whole: Callable[[str], int], count: str = "+") -> None:
    parser.add_argument(
        "images", type=Path, nargs=count, metavar="IMAGES", help="files, folders, CSV lists"
    )
    parser.add_argument(
        "--class-level",
        type=whole,
        metavar="N",
        help="in folders: which folder on the way to an image is its class, from 1",
    )


def _to(parser: argparse.ArgumentParser, metavar: str, help_text: str) -> None:
    parser.add_argument("--to", type=Path, required=True, metavar=metavar, help=help_text)
