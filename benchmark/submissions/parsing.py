"""A stranger's file as the model that it must fit; each fault of it is a line, none an exception.

JSON, TOML and lines of JSON, with strict types, within the bounds of
:mod:`benchmark.submissions.bounds`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from benchmark.submissions import bounds, values
from benchmark.submissions.schema import Trial, compact, laid_out
from benchmark.submissions.values import Values
from protocols.errors import InvalidInputError

MAX_FAULTY_LINES = 5  # of trials.jsonl; what follows is not read

Problem = tuple[str, str]  # message, path below the results folder
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Reader:
    """Reads files below ``results`` and notes what is wrong with them.

    Attributes:
        results: the folder that paths in messages are below.
        problems: grows by what is found.
    """

    results: Path
    problems: list[Problem] = field(default_factory=list)

    def note(self, message: str, path: Path) -> None:
        """Note a problem of ``path``."""
        self.problems.append((message, path.relative_to(self.results).as_posix()))

    def json(self, path: Path, model: type[M], limit: int | None = None) -> M | None:
        """Return a JSON file as ``model``, None with a problem noted.

        It must be laid out as ``submit`` does and carry the checksum of its content.

        Args:
            path: the file.
            model: what it must fit.
            limit: of its size in bytes; None takes that of its suffix.
        """
        try:
            content = bounds.content(path, limit)
            body = bounds.parse_json(content)
            if not isinstance(body, dict):
                raise ValueError("expected an object")
            canonical, sha256 = laid_out(body)
        except InvalidInputError as error:
            self.note(str(error), path)
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.note(f"does not read as JSON: {_short(error)}", path)
            return None
        if content != canonical:
            self.note("is not laid out as `submit` writes it", path)
        if body.get("sha256") != sha256:
            self.note("was edited: its checksum is not that of its content", path)
        return self.fitting(body, model, path)

    def toml(self, path: Path, model: type[M]) -> M | None:
        """Return a TOML file as ``model``, None with a problem noted."""
        try:
            body = bounds.parse_toml(bounds.content(path))
        except InvalidInputError as error:
            self.note(str(error), path)
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.note(f"does not read as TOML: {_short(error)}", path)
            return None
        return self.fitting(body, model, path)

    def trials(self, path: Path, sha256: str | None) -> list[Trial]:
        """Return the lines of ``trials.jsonl`` that read.

        Args:
            path: the file.
            sha256: the checksum that its content must have; None where nobody says.
        """
        try:
            content = bounds.content(path)
        except (OSError, InvalidInputError) as error:
            self.note(_short(error), path)
            return []
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            self.note("was edited: its checksum is not the one in cell.json", path)
        found, faulty = list[Trial](), 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            trial = self._trial(line, number, path)
            found += [trial] if trial else []
            faulty += trial is None
            if faulty == MAX_FAULTY_LINES:
                self.note(f"{faulty} faulty lines; what follows was not read", path)
                break
        return found

    def values(self, path: Path) -> Values | None:
        """Return what a run found for every query, None with a problem noted."""
        try:
            return values.unpack(bounds.content(path))
        except (OSError, InvalidInputError) as error:
            self.note(_short(error), path)
            return None

    def fitting(self, body: Any, model: type[M], path: Path, prefix: str = "") -> M | None:
        """Return ``body`` as ``model``, None with its first fault noted in one line."""
        try:
            return model.model_validate(body)
        except ValidationError as error:
            first, *others = error.errors(include_url=False, include_context=False)
            name = ".".join(map(str, first["loc"]))[:80] or "content"
            more = f", and {len(others)} more" if others else ""
            self.note(f"{prefix}{name}: {first['msg']}, met {_met(first['input'])}{more}", path)
            return None

    def _trial(self, line: bytes, number: int, path: Path) -> Trial | None:
        try:
            body = bounds.parse_json(line)
            if f"{compact(body)}\n".encode() != line:
                self.note(f"line {number} is not laid out as `submit` does", path)
        except (ValueError, RecursionError) as error:
            self.note(f"line {number} does not read as JSON: {_short(error)}", path)
            return None
        return self.fitting(body, Trial, path, f"line {number}: ")


def _met(value: Any) -> str:
    """Return a short form of what was met; what is nested is named by its kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return f"{value!r:.80}"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"


def _short(error: BaseException) -> str:
    if isinstance(error, InvalidInputError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:120]
