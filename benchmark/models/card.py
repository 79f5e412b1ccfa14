"""A model card beside an exported model: Markdown that people read, with a block that hubs read.

Form: https://huggingface.co/docs/hub/model-cards, metadata as YAML between two lines of dashes,
results as its ``model-index``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.models.description import Description
from benchmark.study.records import write_bytes
from benchmark.study.scores import label_of, per_cent
from benchmark.study.sides import Sides
from protocols.protocol import hw

TASK = "image-feature-extraction"


def beside(path: Path) -> Path:
    """Return where the card of the model at ``path`` lies."""
    return path.with_name(f"{path.name}.md")


def write(path: Path, told: Description) -> None:
    """Write the card of the model at ``path``.

    Raises:
        StoreError: it cannot be written.
    """
    write_bytes(beside(path), render(path.name, told).encode())


def render(file: str, told: Description) -> str:
    """Return the card of a model that was exported from a study to the file named ``file``."""
    made = told.origin
    data = _metadata(told)
    lines = ["---", *(f"{key}: {_yaml(value)}" for key, value in data.items()), "---", ""]
    lines += [
        f"# {told.name} on {made['dataset']}",
        "",
        f"Turns an image into {told.size} numbers; images of one kind lie near each other"
        f"{', also of kinds that it was never trained on' * _all_new(made)}. Made by "
        "dml-reality-bench.",
        "",
        "## Use",
        "",
        f"    python -m benchmark embed {shlex.quote(file)} photos --to photos.npy",
        "",
        f"The shorter side of an image is resized to {told.resize_px} pixels, the middle "
        f"{' x '.join(map(str, hw(told.crop_px)))} is cut out, and pixels stay RGB in 0..255: the "
        f"model scales them. Compare embeddings by {told.compare}. All of this is in "
        f"`{file}.json`.",
        "",
        f"How a file becomes pixels: {told.decoding[:1].lower()}{told.decoding[1:]}",
        "",
        "## How it was trained",
        "",
        *(f"- {name}: {value}" for name, value in _facts(told)),
        "",
        "## How well it retrieves",
        "",
        f"{_asked(made)}:",
        "",
        *_table(made),
        "",
        "The setting and the steps were chosen on validation classes; the test classes chose "
        f"neither. {_of_seeds(made)} Whoever chose this method among several by their test scores "
        "has chosen on the test classes, and new classes tend to give less.",
        "",
    ]
    return "\n".join(lines)


def _metadata(told: Description) -> dict[str, Any]:
    made = told.origin
    metrics = [
        {"type": name, "name": label_of(name), "value": value} for name, value in _scores(made)
    ]
    result = {
        "task": {
            "type": TASK,
            "name": f"Image retrieval{' of unseen classes' * _all_new(made)}",
        },
        "dataset": {"type": made["dataset"], "name": made["dataset"], "split": "test"},
        "metrics": metrics,
    }
    return {
        "library_name": "dml-reality-bench",
        "pipeline_tag": TASK,
        "tags": ["deep-metric-learning", "image-retrieval", made["method"], made["trunk"]],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": told.name, "results": [result]}],
    }


def _facts(told: Description) -> Iterator[tuple[str, str]]:
    made = told.origin
    settings = ", ".join(f"{key} {value}" for key, value in sorted(made["settings"].items()))
    folds = made["folds"]
    yield "loss", f"{made['method']}{f' ({settings})' if settings else ''}"
    yield "trunk and recipe", f"{made['trunk']}, {made['recipe']}"
    yield "protocol", f"{made['protocol']} ({made['protocol_hash']}), seed {made['seed']}"
    several = made["joined"] and len(folds) > 1
    joined = f"{len(folds)} fold models, embeddings joined" if several else "one fold model"
    yield "models", f"{joined}, {', '.join(map(str, made['classes']))} training classes"
    yield "steps kept", ", ".join(map(str, made["steps"]))


def _all_new(made: dict[str, Any]) -> bool:
    """Return whether it is known that nothing of the test was trained on."""
    sides = _sides(made)
    return sides is not None and sides.all_new


def _asked(made: dict[str, Any]) -> str:
    """Return what the test asked for, as far as it is known."""
    sides = _sides(made)
    if sides is None:
        return "On the study's test images"
    if sides.warning:
        return f"{sides.warning}; {sides.task}"
    return f"On classes that were never trained on, {sides.task}"


def _sides(made: dict[str, Any]) -> Sides | None:
    return Sides(**made["tested_on"]) if made["tested_on"] else None


def _table(made: dict[str, Any]) -> Iterator[str]:
    """Yield the test metrics of the model, beside them the means over all seeds."""
    means = made["seeds"]["means"] if made["seeds"]["count"] > 1 else {}
    yield "| metric | this model, % |" + (" mean of all seeds, % |" if means else "")
    yield "|---|--:|" + ("--:|" if means else "")
    for name, value in _scores(made):
        mean = f" {per_cent(means[name])} |" if name in means else ""
        yield f"| {label_of(name)} | {per_cent(value)} |{mean}"


def _of_seeds(made: dict[str, Any]) -> str:
    """Return which of its method's seeds the model is, and what that does to its numbers."""
    count = made["seeds"]["count"]
    if count < 2:
        return "It is the only seed of its method, so nothing says how far another would lie."
    if made["seeds"]["best_by_validation"]:
        return (
            f"So was the seed: of {count} it validated best, and such a one tends to lie above the "
            "mean of all, which says what the method does. The study's report has their interval."
        )
    return f"It is one of {count} seeds: the study's report has all of them and their interval."


def _scores(made: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the test metrics, those that head every table first."""
    found: dict[str, float] = made["test"] or {}
    return [(name, value) for name, value in found.items() if isinstance(value, float)]


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line, of which JSON is a part."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
