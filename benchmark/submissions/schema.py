"""The committed form of a finished cell: which files, which fields, where they lie.

A folder ``<protocol>/<dataset>/<row>/`` holds ``cell.json``, ``trials.jsonl``, one
``seed-N.json`` and ``values-N.npz`` a run, ``claim.toml`` and, where somebody reran it,
``challenge-DATE.toml`` with such files of its own in ``challenge-DATE/``. Further evidence of it
are ``search-K/`` with the same files but a claim, and ``oracle-N.json`` (``watched.py``). All of it
is data: JSON, TOML and plain arrays, read with strict types and no unknown field. The search space
stands there as bounds, so that a setting can be checked without importing the method. Times are
seconds, memory is MB, metrics are fractions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from benchmark.submissions.fields import (
    GRID_NAME,
    LETTERS,
    NAME,
    RESERVED,
    Bounds,
    Commit,
    Data,
    Fraction,
    GridName,
    Id,
    Joules,
    Name,
    Natural,
    Price,
    ReportedMetric,
    RowName,
    Said,
    Seconds,
    Settings,
    Sha256,
    ShortHash,
    Text,
    Version,
    Written,
)
from benchmark.submissions.identity import Identity
from protocols.errors import InvalidInputError
from protocols.protocol import digest

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

SCHEMA = 2  # 1, of which no row is left, had no per-query values


class Chosen(Data):
    """The setting of the final runs and the rule that picked it."""

    rule: Text
    trial: Natural | None
    settings: Settings
    value: Fraction | None


class Measured(Data):
    """What search and runs took together; None where the machine did not tell.

    The machine's and the card's are the part that :mod:`benchmark.study.spending` gives them.
    """

    seconds: Seconds
    cpu_s: Seconds | None = None
    machine_s: Seconds | None = None
    gpu_s: Seconds | None = None
    package_j: Joules | None = None
    gpu_j: Joules | None = None


class Cell(Data):
    """What was compared: everything that the cell's id is a digest of, bounds and choice.

    ``took`` is what it cost; rows of earlier versions do not say it.
    """

    file: ClassVar[str] = "cell.json"
    schema_: int = Field(SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    id: Id
    protocol: Name
    protocol_version: Annotated[int, Field(ge=1)]
    protocol_hash: ShortHash
    seeds: Annotated[int, Field(ge=1, le=1000)]
    dataset: Name
    trunk: GridName
    recipe: Name
    method: Name
    row: RowName
    identity: dict[str, Any]
    space: dict[Name, Bounds]
    chosen: Chosen
    took: Measured | None = None
    trials_sha256: Sha256
    sha256: Sha256

    @cached_property
    def made_of(self) -> Identity:
        """Return the identity with its types; reading a row has made sure that it has them."""
        return Identity.model_validate(self.identity)

    @property
    def rules(self) -> dict[str, Any]:
        """Return the protocol's rules as they were digested."""
        rules: dict[str, Any] = self.identity["rules"]
        return rules

    @property
    def is_reference(self) -> bool:
        """Return whether the method is the untouched trunk, which may have one set of vectors."""
        rules = self.made_of.rules
        return self.method in (rules.reference, rules.pretrained_reference)


class Trial(Data):
    """One line of ``trials.jsonl``."""

    id: Id
    number: Natural
    status: Literal["done", "failed"]
    reason: Literal["oom", "non_finite", "crash", "timeout", "bad_data", "error"] | None
    settings: Settings
    folds: list[Fraction | None]
    value: Fraction
    seconds: Seconds


class Scores(Data):
    """The metrics of one embedding, fractions.

    Test scores also hold what is reported alone, ``recall_at_K``, ``map_at_10``,
    ``tar_at_far_F`` and ``opis``; rows older than these lack them.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[ReportedMetric, Fraction]

    precision_at_1: Fraction
    r_precision: Fraction
    map_at_r: Fraction

    @property
    def reported(self) -> dict[str, float]:
        """Return what is reported alone, by name."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def recalls(self) -> dict[int, float]:
        """Return recall by k, rising."""
        named = (name.removeprefix("recall_at_") for name in self.reported)
        at = sorted(int(k) for k in named if k.isdecimal())
        return {k: self.reported[f"recall_at_{k}"] for k in at}


class Environment(Data):
    """Versions, device and commit; nothing that names a machine or a path.

    What is None was not recorded, or is nothing that such a device has.
    """

    python: Version
    system: Version
    torch: Version
    torchvision: Version
    pytorch_metric_learning: Version = Field(alias="pytorch-metric-learning")
    optuna: Version
    numpy: Version
    timm: Version
    device: Version
    device_kind: Version | None = None
    threads: Natural | None = None
    cpu_capability: Version | None = None
    matmul_precision: Version | None = None
    conv_precision: Version | None = None
    mkl_cbwr: Version | None = None
    cuda: Version | None = None
    cudnn: Version | None = None
    driver: Version | None = None
    deterministic: bool | None = None
    commit: Commit
    dirty: bool

    def known(self) -> dict[str, Any]:
        """Return what was recorded, by the names that records have."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Run(Data):
    """One seed, ``seed-N.json``. A run that diverged has a reason and no scores.

    ``queries_sha256`` is of the study's own per-query file, ``values_sha256`` of the part of it
    that is submitted: what the run found for every query, without the neighbours.
    """

    schema_: int = Field(SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    cell: Id
    id: Id
    seed: Natural
    status: Literal["done", "failed"]
    reason: Literal["non_finite"] | None
    settings: Settings
    folds: list[Scores | None]
    separated: Scores | None
    concatenated: Scores | None
    validation: Scores | None
    best_steps: list[Natural | None]
    excluded: Natural | None
    ties: Natural | None = None
    embeddings_sha256: Sha256 | None
    embeddings_shape: list[Natural] | None
    queries_sha256: Sha256 | None
    values_sha256: Sha256 | None = None
    openings: Natural
    counts: dict[Name, Natural]
    seconds: Seconds
    train_s: Seconds
    peak_memory_mb: Natural
    environment: Environment
    sha256: Sha256


class Claim(Data):
    """``claim.toml``: what a record cannot know, written by hand.

    Attributes:
        who: who ran it.
        hardware: on what.
        deviations: from the protocol, empty for none.
        predecessor: commit that holds the rows which these replace, empty for new ones.
        note: anything else.
        price_per_hour: of the machine, like ``0.80 EUR``; empty where nobody says it.
    """

    file: ClassVar[str] = "claim.toml"
    who: Said
    hardware: Said
    deviations: Written
    predecessor: Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]
    note: Written
    price_per_hour: Price = ""


class Challenge(Data):
    """``challenge-DATE.toml``: somebody else's rerun of a claim, written by hand.

    Attributes:
        who, hardware, note: as in a claim.
        author_of_method: whether the rerun is by an author of the method's paper; it counts as
            theirs if it is signed.
    """

    who: Said
    hardware: Said
    note: Written
    author_of_method: bool = False


def folder_name(row: str, trunk: str, recipe: str, rules_default: tuple[str, str]) -> str:
    """Return a row's folder: its name, and ``+TRUNK.RECIPE`` unless both are the protocol's.

    A colon becomes a hyphen; names that would lead elsewhere are refused.

    Raises:
        InvalidInputError: a name with other characters than a folder may have.
    """
    _check("method", row, NAME)
    if (trunk, recipe) == rules_default:
        return row
    _check("trunk", trunk, GRID_NAME)
    _check("recipe", recipe, NAME)
    return f"{row}+{trunk.replace(':', '-')}.{recipe}"


def place_of(protocol: str, dataset: str, folder: str) -> str:
    """Return a cell's folder below results/.

    Raises:
        InvalidInputError: a name with other characters than a folder may have.
    """
    _check("protocol", protocol, NAME)
    _check("dataset", dataset, NAME)
    return f"{protocol}/{dataset}/{folder}"


def cell_id(identity: Mapping[str, Any]) -> str:
    """Return the id of a cell made of ``identity``; its rules enter by their own hash."""
    return digest({**identity, "rules": digest(identity.get("rules"))}, 16)


def pack(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` with its checksum as JSON, a top-level field a line, in fixed order."""
    return lines_of({**body, "sha256": checksum(body)})


def pack_trials(trials: list[dict[str, Any]]) -> bytes:
    """Return ``trials`` as lines of JSON."""
    return "".join(f"{compact(trial)}\n" for trial in trials).encode()


def checksum(body: Mapping[str, Any]) -> str:
    """Return sha256 over ``body``, its own field ``sha256`` left out."""
    return _checksum(_fields(body))


def _check(kind: str, name: str, pattern: str) -> None:
    if name == RESERVED or not re.fullmatch(pattern, name):
        raise InvalidInputError(
            f"{kind} {name!r}: a row's {kind} starts with a lower-case letter or digit, has no "
            f"others than {LETTERS[pattern]}, and is not {RESERVED!r}. Rename it and run it again"
        )


def lines_of(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as JSON, a top-level field a line, in fixed order."""
    return _lines(_fields(body))


def laid_out(body: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return :func:`lines_of` and :func:`checksum` of ``body``, its values written once."""
    fields = _fields(body)
    return _lines(fields), _checksum(fields)


def compact(value: object) -> str:
    """Return ``value`` as JSON on one line; raise ValueError for NaN."""
    return _JSON.encode(value)


def _fields(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the values as JSON by name, in fixed order."""
    return {name: compact(body[name]) for name in sorted(body)}


def _lines(fields: Mapping[str, str]) -> bytes:
    rows = [f"{compact(name)}: {value}" for name, value in fields.items()]
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode()


def _checksum(fields: Mapping[str, str]) -> str:
    kept = [f"{compact(name)}:{value}" for name, value in fields.items() if name != "sha256"]
    return hashlib.sha256(("{" + ",".join(kept) + "}").encode()).hexdigest()
