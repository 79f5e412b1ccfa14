"""What is wrong with one row of results/: the checks that need no other row and no git log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmark.study import selection
from benchmark.study.failures import MACHINES
from benchmark.study.records import TrialRecord
from benchmark.submissions import judging, schema
from benchmark.submissions.git import History
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell, Run, Scores
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.protocol import Protocol, digest
from protocols.space import Space, defaults, rebuilt, resolve, size

Problem = tuple[str, str]  # message, path below the results folder
# how far MAP@R may be above R-precision by rounding: they are equal if hits come first
_NEXT_TO_EQUAL = 1e-12


def problems_of(
    row: SubmittedRow, known: Mapping[str, Protocol], history: History | None
) -> Iterator[Problem]:
    """Yield what is wrong with one row: its form first, then what its content says."""
    yield from row.problems
    named = {path.rpartition("/")[2] for _, path in row.problems}
    for name, there in (("cell.json", row.cell), ("claim.toml", row.claim)):
        if there is None and name not in named:
            yield "is missing", f"{row.place}/{name}"
    if row.cell is None:
        return
    yield from _cell(row, row.cell, known)
    yield from _seeds(row, row.cell)
    space = _space(row.cell)
    if isinstance(space, str):
        yield space, f"{row.place}/cell.json"
    else:
        yield from _settings(row, row.cell, space)
        yield from _search(row, row.cell, space)
    yield from _commits(row, history)
    yield from _duplicates(row, row.cell)
    for path, run in _all_runs(row):
        yield from ((message, path) for message in _run(run, row.cell))
    yield from _reruns(row)


def _cell(row: SubmittedRow, cell: Cell, known: Mapping[str, Protocol]) -> Iterator[Problem]:
    """Yield what is wrong with a cell's place, id and protocol (check 2)."""
    path, rules = f"{row.place}/cell.json", cell.rules
    if schema.cell_id(cell.identity) != cell.id:
        yield "id is not the digest of identity", path
    said = {
        "dataset": cell.identity.get("dataset"),
        "trunk": cell.identity.get("trunk"),
        "method": cell.identity.get("method"),
        "recipe": _get(cell.identity, "recipe", "name"),
        "protocol": rules.get("name"),
        "protocol_version": rules.get("version"),
    }
    for name, value in said.items():
        if getattr(cell, name) != value:
            yield f"{name} {getattr(cell, name)!r}, identity has {value!r}", path
    if cell.row != cell.method:
        yield f"row {cell.row!r}, expected the method's name {cell.method!r}", path
    protocol = known.get(cell.protocol)
    if protocol is None:
        yield f"protocol {cell.protocol!r} does not ship here; known: {', '.join(known)}", path
        return
    yield from ((message, path) for message in _protocol(cell, protocol))
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
    for seed in sorted(set(range(cell.seeds)) ^ set(row.runs)):
        if f"{row.place}/seed-{seed}.json" in unread:
            continue
        what = "is missing" if seed < cell.seeds else f"is one more than {cell.seeds} seeds"
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
        return rebuilt({name: bounds.model_dump() for name, bounds in cell.space.items()})
    except InvalidInputError as error:
        return f"space: {error}"


def _settings(row: SubmittedRow, cell: Cell, space: Space) -> Iterator[Problem]:
    """Yield settings outside the space, and ids that are not their digest (check 4)."""
    complete = cell.rules.get("params") == "search"
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
    path, rules = f"{row.place}/trials.jsonl", cell.rules
    trials = row.trials
    if [t.number for t in trials] != list(range(len(trials))):
        yield f"trials {[t.number for t in trials]}: expected 0, 1, 2 … in order", path
    folds = rules.get("folds")
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
            score = _get(rules, "search", "failed_score")
            expected = fmean(done) if trial.status == "done" else score
            if trial.value != expected:
                yield f"trial {trial.number}: value {trial.value}, expected {expected}", path
    if trials and trials[0].settings != defaults(space):
        yield "trial 0: not the authors' defaults", path
    yield from ((message, path) for message in _budget(row, rules, space))
    yield from ((m, f"{row.place}/cell.json") for m in _choice(row, cell, bool(space)))


def _budget(row: SubmittedRow, rules: Mapping[str, Any], space: Space) -> Iterator[str]:
    budget = _get(rules, "search", "trials") if _is_searched(rules, bool(space)) else 0
    limit = _get(rules, "search", "max_failures_in_a_row")
    if not isinstance(budget, int) or not isinstance(limit, int):
        yield "its rules hold no search budget"
        return
    last = [trial.status for trial in row.trials[-limit:]]
    gave_up = len(last) == limit and set(last) == {"failed"}
    # a search never repeats a setting, so it may end there
    tried_all = len(row.trials) == size(space)
    if len(row.trials) > budget or (len(row.trials) < budget and not (gave_up or tried_all)):
        yield f"{len(row.trials)} trials; the protocol has {budget}, the same for every method"


def _choice(row: SubmittedRow, cell: Cell, searched: bool) -> Iterator[str]:
    chosen = cell.chosen
    if _is_searched(cell.rules, searched):
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
        published = cell.rules.get("params") == "published" and searched
        rule = selection.PUBLISHED if published else selection.NO_SEARCH
        expected = (rule, None, chosen.settings, None)
    met = (chosen.rule, chosen.trial, chosen.settings, chosen.value)
    if met != expected:
        yield f"chosen {met}; the rule picks {expected}"


def _is_searched(rules: Mapping[str, Any], has_space: bool) -> bool:
    return has_space and rules.get("params") == "search"


def _commits(row: SubmittedRow, history: History | None) -> Iterator[Problem]:
    """Yield runs of several commits, of an edited checkout or an unknown commit (check 7)."""
    counted = Counter(run.environment.commit for run in row.runs.values())
    if len(counted) > 1:
        yield f"runs of {len(counted)} commits: {', '.join(sorted(counted))}", row.place
    unknown = {
        commit
        for commit in {run.environment.commit for _, run in _all_runs(row)}
        if history and not history.shallow and not history.has(commit)
    }
    for path, run in _all_runs(row):
        if run.environment.dirty:
            yield "ran in a checkout with uncommitted changes", path
        if run.environment.commit in unknown:
            yield f"commit {run.environment.commit} is not in this history", path


def _duplicates(row: SubmittedRow, cell: Cell) -> Iterator[Problem]:
    """Yield seeds with another's embeddings (check 10); an untouched trunk may have one set."""
    if cell.method in (cell.rules.get("reference"), cell.rules.get("pretrained_reference")):
        return
    seen: dict[str, int] = {}
    for seed, run in sorted(row.runs.items()):
        key = run.embeddings_sha256
        if key is not None and seen.setdefault(key, seed) != seed:
            path = f"{row.place}/seed-{seed}.json"
            yield f"has the very embeddings of seed {seen[key]}", path


def _run(run: Run, cell: Cell) -> Iterator[str]:
    """Yield what cannot be true of a run (check 9)."""
    folds, parts = cell.rules.get("folds"), (run.separated, run.concatenated, run.validation)
    told = (*parts, run.embeddings_sha256, run.embeddings_shape, run.queries_sha256, run.excluded)
    if run.status == "failed":
        if run.reason is None or any(value is not None for value in told):
            yield "failed, but without a reason or with scores"
        return
    if run.reason is not None or any(value is None for value in told) or None in run.folds:
        yield "done, but with a reason or without scores"
        return
    if len(run.folds) != folds or len(run.best_steps) != folds:
        yield f"{len(run.folds)} folds, the protocol has {folds}"
    elif run.openings != len(run.folds) + 1:
        yield f"test data opened {run.openings} times; expected once a fold and once to join"
    yield from _scores(run)
    if run.embeddings_shape and len(run.embeddings_shape) != 2:
        yield f"embeddings_shape {run.embeddings_shape}: expected images, width"
    elif run.embeddings_shape and (run.excluded or 0) > run.embeddings_shape[0]:
        yield f"{run.excluded} of {run.embeddings_shape[0]} queries excluded"


def _scores(run: Run) -> Iterator[str]:
    """Yield metrics that contradict one another."""
    for scores in (*run.folds, run.separated, run.concatenated, run.validation):
        if scores and scores.map_at_r > scores.r_precision + _NEXT_TO_EQUAL:
            yield f"map_at_r {scores.map_at_r} above r_precision {scores.r_precision}"
        if scores:
            yield from _recalls(scores)
    tested = [scores for scores in (*run.folds, run.separated) if scores]
    if len({frozenset(scores.reported) for scores in tested}) > 1:
        yield "folds and separated do not report the same metrics"
        return
    separated = [fold for fold in run.folds if fold]
    for name in (*Scores.model_fields, *separated[0].reported) if separated else ():
        mean = fmean(getattr(fold, name) for fold in separated)
        if getattr(run.separated, name) != mean:
            yield f"separated.{name} is not the mean {mean} of its folds"


def _recalls(scores: Scores) -> Iterator[str]:
    """Yield recalls that fall as k rises, or differ from what they are another name of."""
    recalls = scores.recalls
    for (k, low), (above, high) in pairwise(recalls.items()):
        if high < low:
            yield f"recall_at_{above} {high} below recall_at_{k} {low}"
    if recalls.get(1, scores.precision_at_1) != scores.precision_at_1:
        yield f"recall_at_1 {recalls[1]}, precision_at_1 {scores.precision_at_1}: they are one"
    if any(high < scores.precision_at_1 for high in recalls.values()):
        yield f"precision_at_1 {scores.precision_at_1} above a recall"


def _reruns(row: SubmittedRow) -> Iterator[Problem]:
    for rerun in row.reruns:
        path = f"{row.place}/{rerun.name}.toml"
        if not rerun.runs:
            yield "a challenge without runs of its own", path
        if rerun.challenge and row.claim and judging.same_person(row, rerun):
            yield f"{rerun.challenge.who!r} made the claim too; somebody else must rerun it", path


def _all_runs(row: SubmittedRow) -> Iterator[tuple[str, Run]]:
    """Yield (path, run) of the claim and of its challenges."""
    for seed, run in row.runs.items():
        yield f"{row.place}/seed-{seed}.json", run
    for rerun in row.reruns:
        for seed, run in rerun.runs.items():
            yield f"{row.place}/{rerun.name}/seed-{seed}.json", run


def _get(body: Mapping[str, Any], *names: str) -> Any:
    """Return a nested value, None where there is none."""
    found: Any = body
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found
