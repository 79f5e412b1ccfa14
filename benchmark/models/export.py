"""Kept weights to one file that embeds: by this program, by torch alone, or by any runtime."""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._dynamo.exc import UserError

from benchmark.models import card, networks, onnx_files, trained_on
from benchmark.models import description as descriptions
from benchmark.models.address import Address, jobs_of
from benchmark.models.description import DECODING, Description, extent_of
from benchmark.models.model import (
    FoldModel,
    Model,
    check_code,
    embed_all,
    from_weights,
    load,
)
from benchmark.models.networks import FoldWeights
from benchmark.models.tested import test_images
from benchmark.study import checksums, weights
from benchmark.study.folder import Study
from benchmark.study.records import write_bytes
from benchmark.study.sides import sides_of
from benchmark.training import evaluate
from benchmark.training.splits import Split
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError, StoreError
from protocols.protocol import hw

SAME = 1e-5  # largest difference from what was recorded, as a share of the largest number
LIKE = {".safetensors": 0.0, ".pt2": 1e-5, ".onnx": 1e-4}  # from the same model run by torch


@dataclass(frozen=True)
class Exported:
    """What was written: how far it is from what was recorded, and from the model before export.

    Both as shares of the largest number in an embedding; ``recorded`` is None where the decoded
    test images are not at hand.
    """

    path: Path
    description: Description
    recorded: float | None
    exported: float


def check_target(to: Path) -> None:
    """Raise InvalidInputError unless a model can be written as ``to`` says."""
    descriptions.check_ending(to)
    if to.suffix == ".onnx":
        onnx_files.check_installed(*onnx_files.PACKAGES)


def export(study: Study, address: Address, to: Path, registry: Registry, remake: str) -> Exported:
    """Write the model at ``address`` to the file ``to``, its description and card beside it.

    Args:
        study: the output folder.
        address: fold models of a finished run.
        to: where; its ending says in which form.
        registry: knows the code of method and trunk.
        remake: the command that makes weights that are missing.

    Raises:
        StoreError: weights are missing, damaged or not those of their record, or the model does
            not embed as it was recorded; nothing is written then.
        InvalidInputError: an unknown ending, or a package that is missing.
    """
    check_target(to)
    folds, model = kept_model(study, address, registry, remake)
    told = model.description
    try:
        first = _first(test_images(study, address.cell, registry), folds)
    except (StoreError, DataError):
        first = None
    recorded = None if first is None else _difference_from_proof(study, model, folds, first)
    if recorded is not None and recorded > SAME:
        raise StoreError(
            f"{address.text}: test images embed otherwise than recorded (by {recorded:.1g} of the "
            f"largest number, at most {SAME:g} is expected). Nothing was written"
        )
    content, batch = _content(model, folds, address.joined, to.suffix)
    asked = sides_of(study, address.cell, address.folds)  # once the test images are there again
    origin = {
        **told.origin,
        "tested_on": asdict(asked) if asked else None,
        "trained_on": trained_on.described(study, address.cell, address.folds),
    }
    told = replace(told, batch=batch, origin=origin)
    difference = _difference_once_read(model, content, to.name, told, registry)
    if difference > LIKE[to.suffix]:
        raise StoreError(
            f"{to} would embed otherwise than the model (by {difference:.1g} of the largest "
            f"number, at most {LIKE[to.suffix]:g} is expected) and was not written. Export it as "
            ".safetensors"
        )
    write_bytes(to, content)
    descriptions.write(to, told)
    card.write(to, told)
    return Exported(to, told, recorded, difference)


def kept_model(
    study: Study, address: Address, registry: Registry, remake: str
) -> tuple[list[FoldWeights], FoldModel]:
    """Return the weights of the fold models at ``address``, and the model that they make.

    Raises:
        StoreError: weights are missing, damaged, or not those of their record or of this code.
    """
    folds = [networks.unpacked(*part) for part in _contents(study, address, remake)]
    told = _description(study, address, folds)
    check_code(told.origin, registry)
    return folds, from_weights(folds, address.joined, told, registry)


def _contents(study: Study, address: Address, remake: str) -> list[tuple[bytes, str]]:
    """Return the bytes and the names of the address's weights, proven by their records."""
    found = []
    for job in jobs_of(study, address):
        path = weights.path_of(study, address.cell, job.number, job.fold)
        if job.weights_sha256 is None:
            raise StoreError(
                f"{address.text} was trained before weights were kept. Remove the records of its "
                f"seed in {study.folder(address.cell)}, then: {remake}"
            )
        if not path.is_file():
            raise StoreError(f"the weights of {address.text} are not kept. To make them: {remake}")
        if checksums.of_file(path) != job.weights_sha256:
            raise StoreError(f"{path} is not what its record says. To make it again: {remake}")
        found.append((path.read_bytes(), str(path)))
    return found


def _description(study: Study, address: Address, folds: list[FoldWeights]) -> Description:
    run, cell, facts = address.run, address.cell, folds[0].facts
    if "ranking" in facts:
        raise InvalidInputError(
            f"{address.text} is compared on a {facts['ranking']}, and models outside a study by "
            "angle or by distance: its numbers would not be those of its row. It stays in the study"
        )
    record, jobs = study.cell_record(cell), jobs_of(study, address)
    identity = record.identity if record else {}
    scores = run.concatenated if address.joined else jobs[0].test
    size = sum(_width(fold, address.joined) for fold in folds)
    origin = {
        "address": address.text,
        "protocol": f"{study.protocol.name} v{study.protocol.version}",
        "protocol_hash": study.protocol.hash(),
        **{name: getattr(cell, name) for name in ("dataset", "trunk", "recipe", "method")},
        **{name: identity.get(name) for name in ("method_code", "trunk_code")},
        "settings": run.settings,
        "seed": run.seed,
        "folds": list(address.folds),
        "joined": address.joined,
        "steps": [job.best_step for job in jobs],
        "classes": [fold.facts["spec"]["classes"] for fold in folds],
        "precision": facts["precision"],
        "scaled_inside": facts["scale"],
        "validation": run.validation if address.joined else jobs[0].validation,
        "test": scores,
        "seeds": _seeds(study, address),
        "embeddings_sha256": run.embeddings_sha256 if address.joined else None,
        "weights_sha256": [job.weights_sha256 for job in jobs],
    }
    return Description(
        resize_px=facts["image"]["resize_px"],
        crop_px=extent_of(facts["image"]["crop_px"]),
        compare="angle" if facts["normalize"] else "distance",
        scale=None,
        name=cell.row,
        size=size,
        batch=facts["eval_batch"],
        decoding=DECODING,
        origin=origin,
    )


def _seeds(study: Study, address: Address) -> dict[str, Any]:
    """Return how many seeds came through, whether this one validated best, and their means.

    Means are of the joined embeddings' test metrics; none for a single fold's model.
    """
    every = [run.concatenated for run in study.runs(address.cell) if run.concatenated]
    names = every[0].keys() if every and address.joined else ()
    best = weights.best_run(study, address.cell)
    return {
        "count": len(every),
        "best_by_validation": best is not None and best.seed == address.run.seed,
        "means": {name: fmean(scores[name] for scores in every) for name in names},
    }


def _width(fold: FoldWeights, joined: bool) -> int:
    wide = int(fold.proof.shape[1])
    return wide if joined else min(wide, int(fold.facts["spec"]["embedding_size"]))


def _first(test: Split, folds: list[FoldWeights]) -> Split:
    some = len(folds[0].proof)
    return Split(test.store, test.index[:some], test.labels[:some])


def _difference_from_proof(
    study: Study, model: FoldModel, folds: list[FoldWeights], first: Split
) -> float:
    """Return how far the first test images embed from what training recorded of them."""
    protocol = study.protocol
    met = [
        evaluate.embed(network, first, protocol, fold.facts["view"])
        for network, fold in zip(model.module.folds, folds, strict=True)
    ]
    pairs = zip(met, folds, strict=True)
    return max(_apart(rows, fold.proof) for rows, fold in pairs)


def _difference_once_read(
    model: FoldModel, content: bytes, name: str, told: Description, registry: Registry
) -> float:
    """Return how far the model in a file's bytes embeds from the one that was exported."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        descriptions.write(path, told)
        return _difference_from(model, load(path, registry))


def _difference_from(model: FoldModel, other: Model) -> float:
    """Return how far two models embed a few made images apart, in full precision."""
    shape, rng = (3, 3, *hw(model.description.crop_px)), np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, shape).astype(np.float32))
    with torch.inference_mode():
        expected = model.module(pixels).numpy()
        if isinstance(other, FoldModel):
            return _apart(other.module(pixels).numpy(), expected)
    return _apart(embed_all(other, torch.split(pixels, 1)), expected)


def _apart(met: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference as a share of the largest number; infinite for NaN."""
    share = np.abs(met - expected).max() / max(float(np.abs(expected).max()), 1e-12)
    return float(share) if np.isfinite(share) else float("inf")


def _content(
    model: FoldModel, folds: list[FoldWeights], joined: bool, form: str
) -> tuple[bytes, int]:
    """Return the file's bytes, and how many images it embeds at once."""
    at_once = model.description.batch
    if form == ".safetensors":
        return networks.pack(folds, joined), at_once
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own deprecations, which no user can settle
        try:
            program = _program(model, {0: torch.export.Dim("batch")})
        except UserError:  # a network whose code asks for the number of images as a plain number
            program, at_once = _program(model, None), 1
        if form == ".onnx":
            return onnx_files.from_program(program), at_once
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return buffer.getvalue(), at_once


def _program(model: FoldModel, dynamic: dict[int, Any] | None) -> torch.export.ExportedProgram:
    """Return the model as a program of any number of images, or of one where none is dynamic."""
    example = torch.zeros(2 if dynamic else 1, 3, *hw(model.description.crop_px))
    try:
        return torch.export.export(model.module, (example,), dynamic_shapes={"pixels": dynamic})
    except Exception as error:  # whatever a network's code does that cannot be followed
        if dynamic and isinstance(error, UserError):
            raise
        reason = str(error).strip().split("\n")[0]
        raise StoreError(
            f"{model.description.name} cannot become a program of torch.export ({reason}). Export "
            "it as .safetensors"
        ) from error
