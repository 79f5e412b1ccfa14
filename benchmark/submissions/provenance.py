"""Whether a row was made with the code that it names: looked up in git, nothing imported or run.

A cell's identity holds digests of its method's and trunk's code and its recipe's values, and a
run names its commit. All of that, and the search space, is made again from the files of that
commit. Of rows of an earlier protocol only names and its version are looked up: their digests were
made by other rules.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from benchmark.submissions.declared import Declarations, UnreadableError
from benchmark.submissions.git import History, Objects
from benchmark.submissions.read import Runs, SubmittedRow
from benchmark.submissions.schema import Cell
from protocols.discovery import INSIDE, KINDS, split_name
from protocols.protocol import digest
from protocols.source_code import chained, constant
from protocols.source_code import digest as code_digest
from protocols.space import described

Problem = tuple[str, str]  # message, path below the results folder
_TRIED = 20  # files of a method's name, where none of them ships
_INSIDE = 2  # trunks that a trunk may hold, one inside the other: each may be in many files
_VERSION = re.compile(r"^    version=(\d{1,9}),$", re.MULTILINE)  # as every protocol here has it
_SHOWN = 8  # digits of a commit in a message


@dataclass
class Code:
    """The code of commits, each file asked for once.

    Attributes:
        history: knows which commits there are.
        objects: git's contents.
        unread: rows whose search space nobody can tell without running their method, and why.
    """

    history: History
    objects: Objects
    unread: dict[str, str] = field(default_factory=dict)
    _digests: dict[tuple[str, str, str], str | None] = field(default_factory=dict)
    _paths: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    _declared: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def paths(self, commit: str, kind: str, name: str) -> list[str]:
        """Return where ``name`` may be in ``commit``: where it ships, or any file of its name."""
        key = (commit, kind, name)
        if key not in self._paths:
            shipped = [f"protocols/{KINDS[kind]}/{name}{end}" for end in (".py", "/__init__.py")]
            found = [path for path in shipped if self.objects.text(f"{commit}:{path}") is not None]
            self._paths[key] = found or self.history.named(commit, f"{name}.py")[:_TRIED]
        return self._paths[key]

    def digest(self, commit: str, kind: str, path: str) -> str | None:
        """Return the digest of the code at ``path``, as a study makes it; None if it is none."""
        key = (commit, kind, path)
        if key not in self._digests:
            self._digests[key] = self._digest(*key)
        return self._digests[key]

    def trunks(
        self, commit: str, name: str, deeper: int = _INSIDE
    ) -> Iterator[tuple[str, str | None, bool]]:
        """Yield where trunk ``name`` may be, its digest, and whether it starts at random.

        A trunk that holds another one is digested with it, as a study does.
        """
        stem, argument = split_name(name)
        for path in self.paths(commit, "trunk", stem):
            own, text = self.digest(commit, "trunk", path), self.objects.text(f"{commit}:{path}")
            drawn = own is not None and constant(text or "", "RANDOM_START") is True
            if own is None or not argument or constant(text or "", "ARGUMENT") != INSIDE:
                yield path, own, drawn
                continue
            for _, inner, random in self.trunks(commit, argument, deeper - 1) if deeper else ():
                yield path, chained(own, inner) if inner else None, drawn or random

    def declared(self, commit: str, what: str, *about: Any) -> Any:
        """Return :meth:`Declarations.space` or ``recipe`` of a commit, or why there is none."""
        key = (commit, what, *about)
        if key not in self._declared:
            reader = Declarations(lambda path: self.objects.text(f"{commit}:{path}"))
            try:
                self._declared[key] = getattr(reader, what)(*about)
            except UnreadableError as error:
                self._declared[key] = str(error)
        return self._declared[key]

    def version(self, commit: str, protocol: str) -> int | None:
        """Return the version of a protocol that ships in a commit, None where it does not say."""
        path = f"{commit}:protocols/{KINDS['protocol']}/{protocol.replace('-', '_')}.py"
        found = _VERSION.findall(self.objects.text(path) or "")
        return int(found[0]) if len(found) == 1 else None

    def day(self, commit: str) -> date | None:
        """Return the day of a commit, in UTC; None for an unknown one."""
        for line in (self.objects.text(commit) or "").splitlines():
            word, _, rest = line.partition(" ")
            if word == "committer" and rest.split()[-2].isdigit():
                return datetime.fromtimestamp(int(rest.split()[-2]), UTC).date()
        return None

    def _digest(self, commit: str, kind: str, path: str) -> str | None:
        source = self.objects.text(f"{commit}:{path}")
        folder = KINDS[kind]

        def read(name: str) -> str | None:
            stem = f"{commit}:protocols/{folder}/{name}"
            text = self.objects.text(f"{stem}.py")
            return self.objects.text(f"{stem}/__init__.py") if text is None else text

        try:
            return code_digest(source, kind, f"protocols.{folder}", read) if source else None
        except (SyntaxError, ValueError, RecursionError):
            return None


def weights_fault(cell: Cell) -> str:
    """Return why a trunk's name hides its weights, or claims some that are not there."""
    made_of = cell.made_of
    known, name = made_of.weights, made_of.trunk
    if known == "none":
        return f"trunk {name!r} names weights, but weights is 'none'" if "+" in name else ""
    short = known.removeprefix("sha256:")[:8] if known.startswith("sha256:") else known
    expected = f"{name.partition('+')[0]}+{short}"
    return "" if name == expected else f"trunk {name!r} with weights; expected {expected!r}"


def faults(row: SubmittedRow, cell: Cell, code: Code) -> Iterator[Problem]:
    """Yield what a row says of its code and the commits that it names do not have."""
    commits = _commits(row)
    named = [commits, *(_commits(rerun) for rerun in row.reruns)]
    for commit in sorted({c for found in named for c in found if code.history.has(c)}):
        yield from (
            (message, f"{row.place}/cell.json") for message in _code(row, cell, commit, code)
        )
    for commit in sorted(c for c in commits if code.history.has(c)):
        said = (_recipe(cell, commit, code), _space(row, cell, commit, code))
        for message in (*itertools.chain(*said), *_trains(row, cell, commit, code)):
            yield message, f"{row.place}/cell.json"


def stale_faults(row: SubmittedRow, cell: Cell, code: Code) -> Iterator[Problem]:
    """Yield what a row of an earlier protocol names and its commits do not have.

    A commit holds the version of the protocol that ran there, and files of these names; of what
    is in them nothing is told.
    """
    named = {
        "method": cell.method,
        "trunk": split_name(cell.trunk.partition("+")[0])[0],
        "recipe": cell.recipe,
    }
    path = f"{row.place}/cell.json"
    for commit in sorted(c for c in _commits(row) if code.history.has(c)):
        for kind, name in named.items():
            if not code.paths(commit, kind, name):
                yield f"{kind} {name!r} is in no file of commit {_short(commit)}", path
        version = code.version(commit, cell.protocol)
        if version not in (None, cell.protocol_version):
            message = f"version {cell.protocol_version}; commit {_short(commit)} has version"
            yield f"{message} {version} of {cell.protocol}", path


def _commits(runs: Runs) -> set[str]:
    return {run.environment.commit for run in runs.runs.values()}


def _code(row: SubmittedRow, cell: Cell, commit: str, code: Code) -> Iterator[str]:
    made_of, trunk = cell.made_of, cell.made_of.trunk.partition("+")[0]
    methods = code.paths(commit, "method", made_of.method)
    held = [(path, code.digest(commit, "method", path)) for path in methods]
    yield from _other("method", made_of.method, made_of.method_code, held, row, commit)
    found = list(code.trunks(commit, trunk))
    trunks = [(path, known) for path, known, _ in found]
    yield from _other("trunk", trunk, made_of.trunk_code, trunks, row, commit)
    drawn = {random for _, known, random in found if known == made_of.trunk_code}
    if drawn and made_of.trunk_drawn not in drawn:
        yield (
            f"trunk_drawn {made_of.trunk_drawn}; trunk {trunk!r} of commit {_short(commit)} says "
            f"{not made_of.trunk_drawn}"
        )


def _other(
    kind: str,
    name: str,
    said: str,
    held: list[tuple[str, str | None]],
    row: SubmittedRow,
    commit: str,
) -> Iterator[str]:
    """Yield why none of the files that a commit holds of a name has the code that a row says."""
    if not held:
        yield f"{kind} {name!r} is in no file of commit {_short(commit)}"
    elif said not in (known for _, known in held):
        path, known = held[0]
        yield (
            f"{kind}_code {said}; {path} of commit {_short(commit)} has {known}{_other_python(row)}"
        )


def _other_python(row: SubmittedRow) -> str:
    """Return a hint where the row's Python may print a syntax tree in another form than this."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    met = {".".join(r.environment.python.split(".")[:2]) for r in row.runs.values()}
    return "" if met <= {here} else f" (told by Python {here}; made with {', '.join(sorted(met))})"


def _recipe(cell: Cell, commit: str, code: Code) -> Iterator[str]:
    said: dict[str, Any] = cell.identity["recipe"]
    paths = code.paths(commit, "recipe", cell.recipe)
    if not paths:
        yield f"recipe {cell.recipe!r} is in no file of commit {_short(commit)}"
        return
    found = [code.declared(commit, "recipe", path) for path in paths]
    wrong = [sorted(_unlike(said, each)) if isinstance(each, dict) else [each] for each in found]
    if all(wrong):
        yield f"recipe: {', '.join(wrong[0])} not as in {paths[0]} of commit {_short(commit)}"


def _unlike(said: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Yield the names of values that differ; one that is None in the file may be left out."""
    for name in {*said, *found}:
        if name not in found or digest(said.get(name)) != digest(found[name]):
            yield name


def _space(row: SubmittedRow, cell: Cell, commit: str, code: Code) -> Iterator[str]:
    paths = [
        path
        for path in code.paths(commit, "method", cell.method)
        if code.digest(commit, "method", path) == cell.made_of.method_code
    ]
    if not paths:
        return  # said already
    bounds = cell.made_of.rules.search.bounds
    found = code.declared(commit, "space", paths[0], cell.dataset, bounds)
    if isinstance(found, str):
        code.unread[row.place] = found
        return
    said = {name: one.model_dump() for name, one in cell.space.items()}
    wrong = sorted(_unlike(said, described(found)))
    if wrong:
        yield f"space: {', '.join(wrong)} not as in {paths[0]} of commit {_short(commit)}"


def _trains(row: SubmittedRow, cell: Cell, commit: str, code: Code) -> Iterator[str]:
    """Yield a method that trains and did not, or the other way: such a row has other runs."""
    trained = any(run.counts.get("images_trained", 0) for run in row.runs.values())
    if not any(run.status == "done" for run in row.runs.values()):
        return
    for path in code.paths(commit, "method", cell.method):
        if code.digest(commit, "method", path) == cell.made_of.method_code:
            found = code.declared(commit, "trains", path)
            if isinstance(found, str):
                code.unread[row.place] = found
            elif found != trained:
                does = "trains" if found else "does not train"
                yield f"images_trained: {path} of commit {_short(commit)} {does}"


def _short(commit: str) -> str:
    return commit[:_SHOWN]
