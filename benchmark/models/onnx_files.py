"""ONNX: written from a program of torch.export, run by onnxruntime."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.models.description import Description
from protocols.errors import InvalidInputError, StoreError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed(*names: str) -> None:
    """Raise InvalidInputError unless the packages are there."""
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise InvalidInputError(
                f"ONNX needs the package {name}: pip install {' '.join(PACKAGES)}"
            ) from error


def from_program(program: torch.export.ExportedProgram) -> bytes:
    """Return the ONNX file of a program with one input ``pixels`` and one output ``embedding``."""
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["embedding"],
    )
    assert made is not None
    content: bytes = made.model_proto.SerializeToString()
    return content


class Session:
    """A model in an ONNX file, ours or a peer's.

    Args:
        path: the file, with one input (B, 3, H, W) float32 and (B, D) as its first output.
        description: what goes in.
    """

    def __init__(self, path: Path, description: Description) -> None:
        check_installed("onnxruntime")
        runtime: Any = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone: they come as exceptions too
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # onnxruntime's own exceptions have no common class
        except Exception as error:
            reason = str(error).split("\n")[0]
            raise StoreError(f"{path}: onnxruntime cannot open it ({reason})") from error
        self.path, self.description = path, description
        given = self._session.get_inputs()[0]
        self._input = given.name
        fixed = given.shape[0] if given.shape else None
        self._at_once = fixed if isinstance(fixed, int) else None

    def embed(self, pixels: Tensor) -> NDArray[np.float32]:
        """Return (B, D) rows of (B, 3, H, W) float32 RGB pixels in 0..255.

        Raises:
            InvalidInputError: the model takes other images, or gives no rows of numbers.
        """
        scaling = self.description.scaling
        seen = (scaling(pixels) if scaling else pixels).contiguous().numpy()
        step = self._at_once or len(seen)
        try:
            parts = [
                self._session.run(None, {self._input: seen[at : at + step]})[0]
                for at in range(0, len(seen), step)
            ]
        except Exception as error:  # see above
            reason = str(error).split("\n")[0]
            raise InvalidInputError(
                f"{self.path} does not take images of shape {seen.shape[1:]}: {reason}"
            ) from error
        rows = np.concatenate(parts).astype(np.float32)
        if rows.ndim != 2 or len(rows) != len(seen):
            raise InvalidInputError(
                f"{self.path} gives {rows.shape} for {len(seen)} images, expected (B, D) embeddings"
            )
        return rows
