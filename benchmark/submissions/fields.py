"""What a single field of a submitted file may hold: names, hashes, and numbers within reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from protocols.names import one_line, seen

NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
GRID_NAME = r"[a-z0-9][A-Za-z0-9_.:+-]{0,127}"  # timm:resnet18.a1_in1k, tiny+0a1b2c3d
RESERVED = "index"  # no name: the site lists all methods, and all datasets, in a page so called
LETTERS = {
    NAME: "lower-case letters, digits, '_' and '-'",
    GRID_NAME: "letters, digits and '_.:+-'",
}

Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
GridName = Annotated[str, Field(pattern=rf"^{GRID_NAME}$")]
SEARCH = r" \(search ([2-9]|[1-9][0-9])\)"  # what a row's name ends in for a further search
RowName = Annotated[str, Field(pattern=rf"^{NAME}({SEARCH})?$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
ShortHash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9 ()_.,:+-]{1,80}$")]  # no path fits in here
Text = Annotated[str, Field(max_length=2000)]


def _seen(text: str) -> str:
    """Return ``text``; raise ValueError where a sign of it cannot be seen. It may have lines."""
    if seen(text) != text:
        raise ValueError("invisible characters; expected plain text")
    return text


def _one_line(text: str) -> str:
    if one_line(text) != text:
        raise ValueError("invisible characters, or more than a line; expected plain text")
    return text


Written = Annotated[Text, AfterValidator(_seen)]  # by hand
Said = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Natural = Annotated[int, Field(ge=0, le=10**15)]
Whole = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
_REPORTED = r"^(recall_at_[1-9][0-9]{0,5}|map_at_10|opis|tar_at_far_1e-[2-4])$"
ReportedMetric = Annotated[str, Field(pattern=_REPORTED)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]  # 32 years
Joules = Annotated[float, Field(gt=0, le=1e15)]
Price = Annotated[str, Field(pattern=r"^([0-9]{1,9}(\.[0-9]{1,6})? ([A-Za-z]{1,8}|[$€]))?$")]
Value = Number | int | bool | Text
Settings = dict[Name, Value]


class Data(BaseModel):
    """Strict types, no field that is not declared, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RealBounds(Data):
    """A :class:`protocols.space.Real` as data."""

    kind: Literal["real"]
    low: Number
    high: Number
    log: bool
    default: Number


class IntegerBounds(Data):
    """A :class:`protocols.space.Integer` as data."""

    kind: Literal["integer"]
    low: int
    high: int
    log: bool
    default: int


class Options(Data):
    """A :class:`protocols.space.Choice` as data."""

    kind: Literal["choice"]
    options: list[Value]
    default: Value


Bounds = Annotated[RealBounds | IntegerBounds | Options, Field(discriminator="kind")]
