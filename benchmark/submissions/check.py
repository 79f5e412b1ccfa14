"""What is wrong with one row of results/: the checks that need no other row and no git log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean

from benchmark.study import selection
from benchmark.study.failures import MACHINES
from benchmark.study.records import TrialRecord
from benchmark.submissions import (
    alike,
    budget,
    challenges,
    figures,
    provenance,
    recompute,
    schema,
    searches,
    watching,
)
from benchmark.submissions.provenance import Code
from benchmark.submissions.read import Runs, SubmittedRow
from benchmark.submissions.schema import Cell, Claim, Run
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.protocol import Protocol, digest
from protocols.space import Space, defaults, resolve

Problem = tuple[str, str]  # message, path below the results folder


def problems_of(
    row: SubmittedRow, known: Mapping[str, Protocol], code: Code | None, *, current: bool
) -> Iterator[Problem]:
    """Yield what is wrong with one row: its form first, then what its content says.

    Args:
        row: the row.
        known: the protocols that ship.
        code: the code of commits; None without git, which leaves it unchecked.
        current: whether the row is of a protocol as it is now; of others the code is looked up by
            name, and the protocol by its version.
    """
    for search in row.searches:
        yield from _problems_of(search, known, code, current=current)
    if row.claim is None and not _is_named(row, Claim.file):
        yield "is missing", f"{row.place}/{Claim.file}"
    if row.cell is None:
        return
    yield from alike.copied(row)
    yield from challenges.faults(row, code)
    yield from searches.faults(row, row.cell)
    yield from watching.faults(row)


def _problems_of(
    row: SubmittedRow, known: Mapping[str, Protocol], code: Code | None, *, current: bool
) -> Iterator[Problem]:
    """Yield what is wrong with a row or a further search, whatever lies beside it."""
    yield from row.problems
    if row.cell is None:
        if not _is_named(row, Cell.file):
            yield "is missing", f"{row.place}/{Cell.file}"
        return
    yield from _cell(row, row.cell, known)
    yield from _seeds(row, row.cell)
    space = _space(row.cell)
    if isinstance(space, str):
        yield space, f"{row.place}/cell.json"
    else:
        yield from _settings(row, row.cell, space)
        yield from _search(row, row.cell, space)
        if other := searches.other_search(row, row.cell, space):
            message = f"its settings are those that search {other} of its cell draws"
            yield message, f"{row.place}/trials.jsonl"
    yield from _commits(row, code)
    if code:
        look_up = provenance.faults if current else provenance.stale_faults
        yield from look_up(row, row.cell, code)
    yield from budget.environment_faults(row)
    for message in budget.cost_faults(row, row.cell):
        yield message, f"{row.place}/{Cell.file}"
    for place, runs in _parts(row):
        yield from _runs(row, place, runs, row.cell)
    yield from alike.within(row)


def _is_named(row: SubmittedRow, file: str) -> bool:
    """Return whether something is wrong with the form of one of a row's files."""
    return any(path == f"{row.place}/{file}" for _, path in row.problems)


def _cell(row: SubmittedRow, cell: Cell, known: Mapping[str, Protocol]) -> Iterator[Problem]:
    """Yield what is wrong with a cell's place, id and protocol (check 2)."""
    path = f"{row.place}/cell.json"
    if schema.cell_id(cell.identity) != cell.id:
        yield "id is not the digest of identity", path
    said = {
        "dataset": cell.made_of.dataset,
        "trunk": cell.made_of.trunk,
        "method": cell.made_of.method,
        "recipe": cell.made_of.recipe.name,
        "protocol": cell.made_of.rules.name,
        "protocol_version": cell.made_of.rules.version,
    }
    for name, value in said.items():
        if getattr(cell, name) != value:
            yield f"{name} {getattr(cell, name)!r}, identity has {value!r}", path
    if cell.row != (expected := searches.name_of(cell.method, row.search)):
        yield f"row {cell.row!r}, expected the method's name {expected!r}", path
    yield from ((message, path) for message in searches.number_faults(row, cell))
    if fault := provenance.weights_fault(cell):
        yield fault, path
    protocol = known.get(cell.protocol)
    if protocol is None:
        yield f"protocol {cell.protocol!r} does not ship here; known: {', '.join(known)}", path
        return
    yield from ((message, path) for message in _protocol(cell, protocol))
    if row.search == 1:  # further searches lie inside their row
        yield from ((message, path) for message in _place(row, cell, protocol))


def _protocol(cell: Cell, protocol: Protocol) -> Iterator[str]:
    """Yield where a cell says it kept to the protocol and did not."""
    rules = cell.rules
    if cell.protocol_version > protocol.version:
        yield f"version {cell.protocol_version}; the current one is {protocol.version}"
    same_rules = digest(rules) == protocol.rules_hash()
    if cell.protocol_hash == protocol.hash():
        if not same_rules:
            yield "rules are not those of the protocol hash that it names"
        if cell.seeds != protocol.seeds:
            yield f"{cell.seeds} seeds; the protocol has {protocol.seeds}"
    elif same_rules and cell.seeds == protocol.seeds:
        yield "protocol_hash is not that of these rules"
    elif cell.protocol_version == protocol.version:
        yield (
            f"protocol_hash {cell.protocol_hash} of version {protocol.version}, which has "
            f"{protocol.hash()}: other rules are another version"
        )


def _place(row: SubmittedRow, cell: Cell, protocol: Protocol) -> Iterator[str]:
    try:
        default = (protocol.trunk, protocol.recipe)
        folder = schema.folder_name(cell.row, cell.trunk, cell.recipe, default)
        expected = schema.place_of(cell.protocol, cell.dataset, folder)
    except InvalidInputError as error:
        yield str(error)
        return
    if row.place != expected:
        yield f"lies in {row.place!r}, expected {expected!r}"


def _seeds(row: SubmittedRow, cell: Cell) -> Iterator[Problem]:
    """Yield seeds that are missing or too many, and files under another's name (check 3)."""
    # files that exist but do not read: reported already
    unread = {path for _, path in row.problems}
    asked = row.runs_asked
    for seed in sorted(set(range(asked)) ^ set(row.runs)):
        if f"{row.place}/seed-{seed}.json" in unread:
            continue
        what = "is missing" if seed < asked else f"is one more than {asked} seed{'s' * (asked > 1)}"
        yield what, f"{row.place}/seed-{seed}.json"
    named = [(row.place, s, r) for s, r in row.runs.items()]
    named += [(f"{row.place}/{x.name}", s, r) for x in row.reruns for s, r in x.runs.items()]
    for place, seed, run in named:
        path = f"{place}/seed-{seed}.json"
        if run.seed != seed:
            yield f"holds seed {run.seed}", path
        if run.cell != cell.id:
            yield f"belongs to cell {run.cell}, the row is {cell.id}", path


def _space(cell: Cell) -> Space | str:
    try:
        return budget.space_of(cell)
    except InvalidInputError as error:
        return f"space: {error}"


def _settings(row: SubmittedRow, cell: Cell, space: Space) -> Iterator[Problem]:
    """Yield settings outside the space, and ids that are not their digest (check 4)."""
    complete = cell.made_of.rules.params == "search"
    chosen = cell.chosen.settings
    named = [(f"trial {t.number}: ", t.settings, f"{row.place}/trials.jsonl") for t in row.trials]
    named.append(("chosen: ", chosen, f"{row.place}/cell.json"))
    for what, settings, path in named:
        try:
            if resolve(space, settings) != settings and complete:
                yield f"{what}settings {settings}: expected all of {sorted(space)}", path
        except BenchmarkError as error:
            yield f"{what}{error}", path
    for trial in row.trials:
        if trial.id != digest([cell.id, "trial", trial.number, trial.settings], 16):
            yield f"trial {trial.number}: id is not its digest", f"{row.place}/trials.jsonl"
    for path, run in _all_runs(row):
        if run.settings != chosen:
            yield f"settings {run.settings} are not the chosen ones {chosen}", path
        if run.id != digest([cell.id, "run", run.seed, run.settings], 16):
            yield "id is not its digest", path


def _search(row: SubmittedRow, cell: Cell, space: Space) -> Iterator[Problem]:
    """Yield a choice the rule does not make, and a search off its budget (checks 5 and 6)."""
    path, rules = f"{row.place}/trials.jsonl", cell.made_of.rules
    trials, folds = row.trials, rules.folds
    if [t.number for t in trials] != list(range(len(trials))):
        yield f"trials {[t.number for t in trials]}: expected 0, 1, 2 … in order", path
    for trial in trials:
        done = [value for value in trial.folds if value is not None]
        if len(trial.folds) != folds:
            yield f"trial {trial.number}: {len(trial.folds)} folds, the protocol has {folds}", path
        elif trial.status == "done" and (trial.reason or len(done) != folds):
            yield f"trial {trial.number}: done, but with a reason or without a value", path
        elif trial.status == "failed" and trial.reason is None:
            yield f"trial {trial.number}: failed without a reason", path
        elif trial.reason in MACHINES:
            yield f"trial {trial.number}: lost to the machine ({trial.reason}), not redone", path
        else:
            expected = fmean(done) if trial.status == "done" else rules.search.failed_score
            if trial.value != expected:
                yield f"trial {trial.number}: value {trial.value}, expected {expected}", path
    if trials and trials[0].settings != defaults(space):
        yield "trial 0: not the authors' defaults", path
    if fault := budget.search_fault(row, cell, space):
        yield fault, path
    yield from ((message, path) for message in budget.trial_faults(row, cell))
    yield from ((m, f"{row.place}/cell.json") for m in _choice(row, cell))


def _choice(row: SubmittedRow, cell: Cell) -> Iterator[str]:
    chosen = cell.chosen
    if budget.is_searched(cell):
        names = ("id", "number", "settings", "status", "value", "folds", "reason")
        trials = [
            TrialRecord(cell=cell.id, **{name: getattr(trial, name) for name in names})
            for trial in row.trials
        ]
        best = selection.choose(trials)
        expected = (
            selection.BEST_TRIAL,
            best.number if best else None,
            best.settings if best else {},
            best.value if best else None,
        )
    else:
        published = cell.made_of.rules.params == "published" and cell.space
        rule = selection.PUBLISHED if published else selection.NO_SEARCH
        expected = (rule, None, chosen.settings, None)
    met = (chosen.rule, chosen.trial, chosen.settings, chosen.value)
    if met != expected:
        yield f"chosen {met}; the rule picks {expected}"


def _commits(row: SubmittedRow, code: Code | None) -> Iterator[Problem]:
    """Yield runs of several commits, of an edited checkout or an unknown commit (check 7)."""
    counted = Counter(run.environment.commit for run in row.runs.values())
    if len(counted) > 1:
        yield f"runs of {len(counted)} commits: {', '.join(sorted(counted))}", row.place
    for path, run in _all_runs(row):
        commit = run.environment.commit
        if run.environment.dirty:
            yield "ran in a checkout with uncommitted changes", path
        if code and not code.history.shallow and not code.history.has(commit):
            yield f"commit {commit} is not in this history", path


def _runs(row: SubmittedRow, place: str, runs: Runs, cell: Cell) -> Iterator[Problem]:
    """Yield what cannot be true of runs, by their figures and by their queries (check 9)."""
    for seed, run in runs.runs.items():
        path, at = f"{place}/seed-{seed}.json", f"{place}/values-{seed}.npz"
        values = runs.values.get(seed)
        found = list(figures.faults(run, cell, len(values.query) if values else None))
        yield from ((message, path) for message in (*found, *budget.run_faults(run, cell)))
        expected = run.status == "done"
        if expected != (run.values_sha256 is not None):
            yield f"values_sha256 {run.values_sha256}, of a run that is {run.status}", path
        elif values and values.sha256 != run.values_sha256:
            yield f"its checksum is not the one in seed-{seed}.json", at
        elif values and not found:
            yield from ((message, at) for message in recompute.faults(run, values))
        elif expected and not values and at not in {path for _, path in row.problems}:
            yield "is missing", at
    for seed in sorted(runs.values.keys() - runs.runs.keys()):
        yield f"belongs to no seed-{seed}.json", f"{place}/values-{seed}.npz"


def _parts(row: SubmittedRow) -> Iterator[tuple[str, Runs]]:
    """Yield the claim's runs and its reruns', each with their folder."""
    yield row.place, row
    for rerun in row.reruns:
        yield f"{row.place}/{rerun.name}", rerun


def _all_runs(row: SubmittedRow) -> Iterator[tuple[str, Run]]:
    """Yield (path, run) of the claim and of its challenges."""
    for place, runs in _parts(row):
        for seed, run in runs.runs.items():
            yield f"{place}/seed-{seed}.json", run
