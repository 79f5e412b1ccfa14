"""The one error tree. The command line turns each into one line and an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BenchmarkError(Exception):
    """Something the user can put right; the message says what was met, expected and to do."""


class UnknownNameError(BenchmarkError):
    """A name that no method, dataset, trunk, recipe or protocol answers to."""


class InvalidInputError(BenchmarkError):
    """A value outside what a function, a file or an option accepts."""


class DataError(BenchmarkError):
    """A dataset that is missing, damaged or not the one expected."""


class PluginError(BenchmarkError):
    """A plugin that cannot be imported or does not keep the contract."""


class StoreError(BenchmarkError):
    """An output folder that cannot be used as asked."""


class MachineError(BenchmarkError):
    """A machine on which no job can run at present, whatever its method."""


def in_words(error: BaseException) -> str:
    """Return an exception's type and message, also of one whose message cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # its __str__ is a plugin's code and may raise anything
        return f"{type(error).__name__} (its message cannot be shown)"


# What a name may be that is not among the known ones, by what was looked for.
_OWN = {
    "dataset": "Own images are folder:PATH or csv:PATH, or a name under the --root it was given in",
    **dict.fromkeys(("method", "trunk", "recipe", "protocol"), "A file of yours: --plugin FILE"),
}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return an error that names the nearest known names first, then all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    own = f" {_OWN[kind]}." if kind in _OWN else ""
    return UnknownNameError(f"no {kind} {name!r}.{hint} Known: {', '.join(names)}.{own}")
