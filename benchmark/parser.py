"""The parser of every command: complaints of one line, and help that ends with examples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from benchmark.examples import EXAMPLES
from protocols.errors import InvalidInputError
from protocols.study_file import read_study_file

SCRIPT = "dml-benchmark"  # as setup.cfg installs it


def started_as() -> str:
    """Return how the program was started: by its script, or as a module."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else "python -m benchmark"


class Help(argparse.HelpFormatter):
    """Help whose indented lines, the examples, stay as they are; other text fills the width."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        lines = text.split("\n")
        return "\n".join(x if x.startswith(" ") else fill(x, width, indent) for x in lines)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, with the nearest names."""

    def format_help(self) -> str:
        """Return the help, which ends with commands that can be typed as they stand."""
        self.formatter_class = Help
        known = EXAMPLES[self.prog.removeprefix(started_as()).strip()]
        lines = [f"  {self.prog} {words}".rstrip() for words in known]
        self.epilog = "\n".join(["examples:" if len(lines) > 1 else "example:", *lines])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise InvalidInputError in place of printing the usage and leaving."""
        raise InvalidInputError(f"{message}. See: {self.prog} --help")

    def options(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the options of a command line, those of its study file among them.

        Raises:
            BenchmarkError: an option or a study file that does not do.
        """
        found: argparse.Namespace = self.parse_args(argv)  # type: ignore[no-untyped-call]
        if getattr(found, "file", None) is not None:  # its values count where nothing is typed
            found.parser.set_defaults(**read_study_file(found.file))
            found = self.parse_args(argv)  # type: ignore[no-untyped-call]
        return found

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse, and suggest the nearest option for one that does not exist."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(parsed, "parser", self)
            known = [o for action in command._actions for o in action.option_strings]
            near = get_close_matches(unknown[0], known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InvalidInputError(
                f"unknown argument {unknown[0]!r}.{hint} See: {command.prog} --help"
            )
        return parsed
