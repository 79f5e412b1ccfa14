"""What a cell's id is a digest of, as far as other checks read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from benchmark.submissions.fields import (
    Data,
    Fraction,
    GridName,
    Name,
    Natural,
    Seconds,
    ShortHash,
    Text,
    Whole,
)


class _Rules(Data):
    """Some of a protocol's rules, as far as other checks need them; versions differ in the rest."""

    model_config = ConfigDict(extra="allow")


class Pace(_Rules):
    """The budget of a training, in steps."""

    max_steps: Whole
    steps_per_epoch: Whole
    validate_every: Whole


class Search(_Rules):
    """The budget of a search."""

    trials: Natural
    max_failures_in_a_row: Whole
    failed_score: Fraction
    startup_trials: Natural = 0
    bounds: Literal["wide", "narrow"] = "wide"


class Rules(_Rules):
    """A protocol's rules."""

    name: Name
    version: Whole
    folds: Annotated[int, Field(ge=1, le=1000)]
    params: Literal["search", "published"]
    batch_size: Whole
    retries: Natural
    timeout_s: Seconds
    reference: Name
    pretrained_reference: Name
    baseline: Name
    pace: Pace
    paces: dict[Name, Pace]
    search: Search


class Cycle(_Rules):
    """A cyclical rate, which is judged once a cycle."""

    half_epochs: Whole


class Recipe(_Rules):
    """What the optimiser did; its other values are compared with the recipe's source."""

    name: Name
    averaging: dict[str, Any] | None
    cycle: Cycle | None


class Identity(Data):
    """All that a cell's id is made of. Nothing more: a further field would be a further draw.

    ``search_repeat`` counts searches of one cell from 0. What has a default is left out where it
    has that value, so that there is one identity for each row.
    """

    rules: Rules
    dataset: Name
    dataset_digest: Text
    trunk: GridName
    weights: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|[\w-]{1,80})$")]
    trunk_code: ShortHash
    trunk_drawn: bool = False
    recipe: Recipe
    method: Name
    method_code: ShortHash
    search_repeat: Natural = 0

    @classmethod
    def stated_defaults(cls, identity: Mapping[str, Any]) -> list[str]:
        """Return the names that ``identity`` states with the value that leaving them out means."""
        optional = {k: v.default for k, v in cls.model_fields.items() if not v.is_required()}
        return [k for k, default in optional.items() if k in identity and identity[k] == default]
