"""Hyperparameters as descriptors: one line is attribute, default, bounds, scale and search axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Generic, Self, TypeVar, overload

from protocols.errors import InvalidInputError, unknown_name
from protocols.ranges import (
    between,
    check_numbers,
    check_options,
    check_range,
    comes_back,
    share_between,
)

PARTS = 1000  # of a Real's range: to a search, all values in one part are the same

T = TypeVar("T", bound="float | int | str | bool")
Setting = float | int | str | bool
Settings = dict[str, Setting]


class Hyperparameter(Generic[T]):
    """One searched value of a method. On an instance it reads as the chosen value.

    The class it stands in needs an attribute ``settings``: a mapping from hyperparameter
    name to value, complete after construction.

    Nothing of it changes once it is said: a method that takes another's hyperparameter and narrows
    it would narrow the other's search.
    """

    default: T
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name and self.name != name:
            raise InvalidInputError(
                f"{owner.__name__}.{name} is the hyperparameter {self.name!r} of another place: "
                f"write a new {type(self).__name__}(...)"
            )
        self.name = name

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, value)
        if before != value or type(before) is not type(value):
            raise InvalidInputError(
                f"{name} of hyperparameter {self.name or self.describe()!r} is {before!r} and "
                f"stays so, met {value!r}: write a new {type(self).__name__}(...)"
            )
        super().__setattr__(name, value)

    def starting_at(self, value: object) -> Self:
        """Return the same hyperparameter with another default.

        Raises:
            InvalidInputError: ``value`` is outside the bounds.
        """
        found = copy(self)
        vars(found)["default"] = self.accept(value)
        return found

    @overload
    def __get__(self, instance: None, owner: type) -> Hyperparameter[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else instance.settings[self.name]

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"{self.name} is a hyperparameter: pass it when building the method")

    def accept(self, value: object) -> T:
        """Return ``value`` in this hyperparameter's type, or raise InvalidInputError."""
        raise TypeError("use Real, Integer or Choice")

    def corners(self) -> Sequence[T]:
        """Return the extreme values, which a conformance test tries."""
        raise TypeError("use Real, Integer or Choice")

    def at(self, share: float) -> T:
        """Return the value at ``share``, in [0, 1), of the range on its scale."""
        raise TypeError("use Real, Integer or Choice")

    def share(self, value: T) -> float:
        """Return a share, in [0, 1], at which ``value`` is: the inverse of :meth:`at`."""
        raise TypeError("use Real, Integer or Choice")

    def part(self, value: T) -> object:
        """Return what a search takes ``value`` for; of equal parts it tries one."""
        return value

    @property
    def parts(self) -> int:
        """Return how many values a search tells apart."""
        raise TypeError("use Real, Integer or Choice")

    def describe(self) -> str:
        """Return bounds and scale in a few characters, for people."""
        raise TypeError("use Real, Integer or Choice")


class Real(Hyperparameter[float]):
    """A real number in [low, high], searched on a linear or logarithmic scale."""

    def __init__(self, low: float, high: float, *, default: float, log: bool = False) -> None:
        check_numbers(low, high, default)
        self.low, self.high, self.log = float(low), float(high), log
        self.default = float(default)
        check_range(self.low, self.high, self.default, log)

    def accept(self, value: object) -> float:
        """Return ``value`` as a float inside the bounds."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidInputError(f"{self.name}={value!r}: expected a number")
        number = float(value)
        if not self.low <= number <= self.high:
            raise InvalidInputError(f"{self.name}={number!r}: expected {self.describe()}")
        return number

    def corners(self) -> Sequence[float]:
        """Return both ends of the range."""
        return (self.low, self.high)

    def at(self, share: float) -> float:
        """Return the number at ``share`` of the range, on the logarithms where ``log``."""
        if self.log:
            found = math.exp(between(math.log(self.low), math.log(self.high), share))
        else:
            found = between(self.low, self.high, share)
        return min(max(found, self.low), self.high)  # rounding may leave the range by a bit

    def share(self, value: float) -> float:
        """Return where ``value`` stands in the range, on the logarithms where ``log``."""
        if self.log:
            return share_between(math.log(self.low), math.log(self.high), math.log(value))
        return share_between(self.low, self.high, value)

    def part(self, value: float) -> int:
        """Return the thousandth of the range, on its scale, that ``value`` lies in."""
        return min(int(self.share(value) * PARTS), PARTS - 1)

    @property
    def parts(self) -> int:
        """Return a thousand: finer steps are noise to a search."""
        return PARTS

    def describe(self) -> str:
        """Return for example ``[0.1, 10] log``."""
        return f"[{self.low:g}, {self.high:g}]{' log' if self.log else ''}"


class Integer(Hyperparameter[int]):
    """A whole number in [low, high]."""

    def __init__(self, low: int, high: int, *, default: int, log: bool = False) -> None:
        self.low, self.high, self.default, self.log = low, high, default, log
        if odd := [n for n in (low, high, default) if type(n) is not int]:
            raise InvalidInputError(
                f"{odd[0]!r} is a {type(odd[0]).__name__}: expected whole numbers (int)"
            )
        check_range(low, high, default, log)

    def accept(self, value: object) -> int:
        """Return ``value`` as an int inside the bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInputError(f"{self.name}={value!r}: expected a whole number")
        if not self.low <= value <= self.high:
            raise InvalidInputError(f"{self.name}={value!r}: expected {self.describe()}")
        return value

    def corners(self) -> Sequence[int]:
        """Return both ends of the range."""
        return (self.low, self.high)

    def at(self, share: float) -> int:
        """Return the whole number at ``share``; each has an equal part, on its scale."""
        low, high = self.low - 0.5, self.high + 0.5
        if self.log:
            found = math.exp(between(math.log(low), math.log(high), share))
        else:
            found = between(low, high, share)
        return min(max(math.floor(found + 0.5), self.low), self.high)

    def share(self, value: int) -> float:
        """Return the middle of the part of the range that ``value`` has."""
        low, high = self.low - 0.5, self.high + 0.5
        if self.log:
            return share_between(math.log(low), math.log(high), math.log(value))
        return share_between(low, high, value)

    @property
    def parts(self) -> int:
        """Return how many whole numbers there are."""
        return self.high - self.low + 1

    def describe(self) -> str:
        """Return for example ``{1..3}``."""
        return f"{{{self.low}..{self.high}}}{' log' if self.log else ''}"


class Choice(Hyperparameter[T]):
    """One of a few named options.

    Args:
        options: distinct; texts, finite numbers or truth values, which JSON gives back.
        default: one of them.
        searched: False for a form that only a published setting or a user asks for; a search
            keeps the default.
    """

    def __init__(self, options: Sequence[T], *, default: T, searched: bool = True) -> None:
        check_options(options)
        self.options, self.default, self.searched = tuple(options), default, searched
        odd = [option for option in (*self.options, default) if not comes_back(option)]
        if odd:
            raise InvalidInputError(
                f"options {self.options}: {odd[0]!r} is a {type(odd[0]).__name__}, expected texts, "
                "finite numbers or True and False, which a record gives back as they were"
            )
        alike = [o for o in self.options if o == default and type(o) is type(default)]
        if not alike or len(set(self.options)) != len(self.options):
            raise InvalidInputError(f"options {self.options}: expected distinct, with {default!r}")

    def accept(self, value: object) -> T:
        """Return the option equal to ``value``: 1 takes 1.0, True and 1 are two."""
        for option in self.options:
            if option == value and isinstance(option, bool) == isinstance(value, bool):
                return option
        raise InvalidInputError(f"{self.name}={value!r}: expected {self.describe()}")

    def corners(self) -> Sequence[T]:
        """Return every option."""
        return self.options

    def at(self, share: float) -> T:
        """Return the option at ``share``; each has an equal part."""
        return self.options[int(share * len(self.options))]

    def share(self, value: T) -> float:
        """Return the middle of the part of the range that the option has."""
        return (self.options.index(value) + 0.5) / len(self.options)

    @property
    def parts(self) -> int:
        """Return how many options there are."""
        return len(self.options)

    def describe(self) -> str:
        """Return for example ``hinge | soft``."""
        return " | ".join(str(option) for option in self.options)


Space = dict[str, Hyperparameter[Any]]


def declared(owner: type) -> Space:
    """Return the hyperparameters a class declares, base classes first, in source order.

    Raises:
        InvalidInputError: one was put there after its class was made.
    """
    found: Space = {}
    for cls in reversed(owner.__mro__):
        own = {k: v for k, v in vars(cls).items() if isinstance(v, Hyperparameter)}
        if late := [name for name, parameter in own.items() if parameter.name != name]:
            raise InvalidInputError(
                f"{cls.__name__}.{late[0]} was replaced after its class was made: write a class of "
                "your own with that hyperparameter"
            )
        found.update(own)
    return found


def defaults(space: Space) -> Settings:
    """Return the authors' defaults."""
    return {name: parameter.default for name, parameter in space.items()}


def size(space: Space) -> int:
    """Return how many settings a search of ``space`` tells apart, see :func:`place`."""
    return math.prod(parameter.parts for parameter in space.values())


def place(space: Space, settings: Settings) -> tuple[object, ...]:
    """Return where ``settings`` lie in ``space``: two settings of one place are the same one.

    Whole numbers and options must be equal for that; reals must lie in the same thousandth of
    their range. A search tries no place twice.
    """
    return tuple(parameter.part(settings[name]) for name, parameter in space.items())


def resolve(space: Space, given: Mapping[str, object]) -> Settings:
    """Return a full setting: the given values, checked, and defaults for the rest.

    Raises:
        UnknownNameError: a name outside the space.
        InvalidInputError: a value outside its bounds.
    """
    for name in given:
        if name not in space:
            raise unknown_name("hyperparameter", name, space)
    settings = defaults(space)
    settings.update({name: space[name].accept(value) for name, value in given.items()})
    return settings


def described(space: Space) -> dict[str, dict[str, Any]]:
    """Return a space as plain data: kind, bounds or options, scale, default."""
    return {
        name: {"kind": type(parameter).__name__.lower(), **_parts(parameter)}
        for name, parameter in space.items()
    }


def rebuilt(description: Mapping[str, Mapping[str, Any]]) -> Space:
    """Return the space of :func:`described`, without its method's code.

    Raises:
        InvalidInputError: an unknown kind, or bounds that are none.
    """
    space: Space = {}
    for name, parts in description.items():
        rest = {k: v for k, v in parts.items() if k != "kind"}
        if parts.get("kind") == "real":
            space[name] = Real(**rest)
        elif parts.get("kind") == "integer":
            space[name] = Integer(**rest)
        elif parts.get("kind") == "choice":
            space[name] = Choice(**rest)
        else:
            raise InvalidInputError(
                f"{name}: kind {parts.get('kind')!r}, expected real, integer or choice"
            )
        space[name].name = name
    return space


def _parts(parameter: Hyperparameter[Any]) -> dict[str, Any]:
    if isinstance(parameter, Choice):
        return {"options": list(parameter.options), "default": parameter.default}
    if isinstance(parameter, (Real, Integer)):
        bounds = {"low": parameter.low, "high": parameter.high, "log": parameter.log}
        return {**bounds, "default": parameter.default}
    raise TypeError(f"{type(parameter).__name__}: use Real, Integer or Choice")
