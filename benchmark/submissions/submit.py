"""Finished cells of a study, copied into results/."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.lost import lost_in
from benchmark.study.machines import mixed
from benchmark.study.queries import fault, read_queries
from benchmark.study.records import CellRecord, RunRecord
from benchmark.study.scores import HEADLINE
from benchmark.study.spending import spending
from benchmark.submissions import git, schema, values
from benchmark.submissions.claims import replacing
from benchmark.submissions.leaderboard import shipped_protocols
from benchmark.submissions.packing import ENVIRONMENT, Finished, environment_of, row_files
from benchmark.submissions.read import read_row, read_search
from benchmark.submissions.schema import Cell, Claim
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError, unknown_name
from protocols.plugin_code import told
from protocols.protocol import Protocol
from protocols.space import Space, described


class Which(NamedTuple):
    """Which rows of a study are meant, by their names on each axis; empty for all."""

    method: Sequence[str] = ()
    dataset: Sequence[str] = ()


ALL = Which()
_SAME = 1e-9  # relative, between one score in a record and in a row


@dataclass(frozen=True)
class Submission:
    """What a submission did.

    Attributes:
        written: the files.
        there: folders of rows, or of what lies beside them, that were there already.
        replaced: by folder, the commit that holds the row which stood there before.
        left_out: what belongs to the study and was not copied, and why.
    """

    written: list[Path]
    there: list[Path]
    left_out: list[str] = field(default_factory=list)
    replaced: dict[Path, str] = field(default_factory=dict)


def submit_rows(
    study: Study,
    results: Path,
    registry: Registry,
    claim: Callable[[], bytes],
    which: Which = ALL,
) -> Submission:
    """Copy the study's finished cells below ``results``; rows of the same cells stay as they are.

    Further searches that are finished go beside their row, now or to one that is there; to that
    only where the study's own first search repeats its numbers, for what another machine moves
    would pass for what a search moves.
    A cell's id is all that makes two rows the same: whoever ran it again measured other seconds,
    and another processor may have given other last bits.

    Args:
        study: every cell of it that is to be copied must be finished.
        results: the folder.
        registry: knows the methods' code, which must still be the study's.
        claim: gives the claim.toml of every new row; asked once where there is one. A row that
            git has seen at its place, and that was removed, is named in it as the predecessor.
        which: rows to copy.

    Raises:
        UnknownNameError: a method or dataset that the study does not have.
        StoreError: a cell is unfinished, the rules are not a shipped protocol's, or a file
            exists with another content; nothing is written then.
    """
    files: dict[Path, bytes] = {}
    there, left_out, form, spent = list[Path](), list[str](), None, spending(study)
    shipped, history, replaced = check_protocol(study), git.find(results), dict[Path, str]()

    def files_of(key: CellKey, folder: Path) -> dict[Path, bytes]:
        finished = finished_cell(study, key)
        space = _space(finished.record, shipped, registry)
        return row_files(folder, finished, shipped, space, spent)

    for key in wanted(study, which):
        folder = results / folder_of(shipped, key)
        if _is_there(results, folder, key):
            there.append(folder)
        else:
            files |= files_of(key, folder)
            if not (folder / Claim.file).exists():
                form = form or claim()
                before = history.holding(folder.relative_to(results).as_posix()) if history else ""
                files[folder / Claim.file] = replacing(form, before)
                replaced |= {folder: before} if before else {}
        further = [own for own in _further(study, key, folder) if not _is_there(results, *own)]
        if further and folder in there and (why := _other_numbers(study, results, folder, key)):
            left_out.append(f"further searches of {key.row} on {key.dataset}: {why}")
            continue
        for place, search in further:
            try:
                files |= files_of(search, place)
            except StoreError as error:
                left_out.append(f"{search.row} on {search.dataset} and what follows it: {error}")
                break
    return Submission(write_once(files), there, left_out, replaced)


def wanted(study: Study, which: Which) -> list[CellKey]:
    """Return the cells that are asked for."""
    for axis, names in which._asdict().items():
        known = sorted({getattr(key, axis) for key in study.cells})
        for name in sorted(set(names) - set(known)):
            raise unknown_name(f"{axis} of this study", name, known)
    wanted = [
        key
        for key in study.cells
        if all(getattr(key, axis) in names for axis, names in which._asdict().items() if names)
    ]
    for key in wanted:
        if key.side:
            raise StoreError(
                f"{key.row} was told the {key.side} of classes, and rows of results/ saw images "
                "and labels alone. Name the others with --methods"
            )
    return wanted


def _further(study: Study, key: CellKey, folder: Path) -> Iterator[tuple[Path, CellKey]]:
    """Yield the further searches of a cell up to the first number that is missing, with places."""
    searches = sorted(study.searches(key)[1:], key=lambda search: search.repeat)
    for repeat, search in enumerate(searches, 1):
        if search.repeat != repeat:
            return
        yield folder / f"search-{repeat + 1}", search


def _is_there(results: Path, folder: Path, key: CellKey) -> bool:
    """Return whether the whole row of a cell lies in its folder, whoever ran it.

    Raises:
        StoreError: it does, and something is wrong with what lies there.
    """
    if not (folder / Cell.file).is_file():
        return False
    row = read_row(results, folder) if key.repeat == 0 else read_search(results, folder)
    if row.cell is None or row.cell.id != key.id:
        return False
    if row.problems:
        message, path = row.problems[0]
        raise StoreError(
            f"the row is there, with a problem: {message} @ {results / path}. What is submitted is "
            "never edited: restore it from git, or remove what does not belong there"
        )
    return set(row.runs) == set(range(row.runs_asked))


def _other_numbers(study: Study, results: Path, folder: Path, key: CellKey) -> str:
    """Return why a study's first search is not the row that lies there, "" where it repeats it."""
    row, own = read_row(results, folder), {run.seed: run for run in study.runs(key)}
    embedding, metric = HEADLINE
    for seed, run in sorted(row.runs.items()):
        if seed not in own:
            return f"its first search lacks seed {seed}, by which it is known for the row's"
        here, there = getattr(own[seed], embedding), getattr(run, embedding)
        met = math.nan if here is None else float(here[metric])
        asked = math.nan if there is None else float(getattr(there, metric))
        if not (math.isclose(met, asked, rel_tol=_SAME) or here is there is None):
            said = ("diverged" if math.isnan(v) else f"has MAP@R {v}" for v in (met, asked))
            return (
                f"seed {seed} of its first search {next(said)}, in the row it {next(said)}. "
                "Another processor or version moves numbers too: search where the row's numbers "
                "come out"
            )
    return ""


def check_protocol(study: Study, *, any_seeds: bool = False, watched: bool = False) -> Protocol:
    """Return the protocol as it ships; raise StoreError if the study kept to another one.

    Args:
        study: the study.
        any_seeds: whether it may have another number of seeds.
        watched: whether it may have opened the test classes at every validation.
    """
    ours, known = study.protocol, shipped_protocols()
    if ours.name not in known:
        raise StoreError(
            f"protocol {ours.name!r} does not ship here, so nobody could check its rows. "
            f"Known: {', '.join(sorted(known))}"
        )
    shipped = known[ours.name]
    if ours.version != shipped.version:
        raise StoreError(
            f"{study.out} ran version {ours.version} of {ours.name!r}, the current one is "
            f"{shipped.version}. Run it again"
        )
    # Seeds are counted below: a study may have been begun with fewer.
    left_out = ("trunk", "recipe", "seeds")
    changed = {k: v for k, v in ours.overrides.items() if k not in left_out}
    if ours.oracle_gap and not watched:
        changed["oracle_gap"] = True
    elif watched:
        changed.pop("oracle_gap", None)
    if ours.seeds != shipped.seeds and not any_seeds:
        changed["seeds"] = ours.seeds
    if changed or ours.rules_hash() != shipped.rules_hash():
        said = ", ".join(f"{k} {v}" for k, v in changed.items()) or "its rules differ"
        raise StoreError(
            f"{study.out} ran a changed {ours.name!r} ({said}): a row of results/ keeps to the "
            "protocol. Run it again without changes, in a folder of its own"
        )
    return shipped


def write_once(files: dict[Path, bytes]) -> list[Path]:
    """Write what is not there yet and return it; refuse all if one file would change.

    Raises:
        StoreError: a file exists with another content.
    """
    for path, content in files.items():
        if path.is_symlink() or (path.exists() and path.read_bytes() != content):
            raise StoreError(
                f"{path} exists and differs: what is submitted is never edited. Leave the row "
                "out with --methods; or, to replace it, remove its folder (git rm -r) and submit "
                "again: the claim then names the commit that holds it"
            )
    fresh = [path for path in files if not path.exists()]
    for path in fresh:
        records.write_bytes(path, files[path])
    return fresh


def folder_of(protocol: Protocol, key: CellKey) -> str:
    """Return where a cell's row lies below results/; raise InvalidInputError if it has no place."""
    if key.dataset.startswith(("folder:", "csv:")):
        raise InvalidInputError(
            f"dataset {key.dataset!r}: own images have no row, as nobody else can run it again; a "
            "dataset with a file of its own has: CONTRIBUTING.md, Add a dataset"
        )
    default = (protocol.trunk, protocol.recipe)
    folder = schema.folder_name(key.row, key.trunk, key.recipe, default)
    return schema.place_of(protocol.name, key.dataset, folder)


def finished_cell(study: Study, key: CellKey) -> Finished:
    """Return the records of a cell; raise StoreError if one is missing or the machine failed."""
    where, asked = f"{study.out}: {key.row} on {key.dataset}", study.runs_asked(key)
    record = study.cell_record(key)
    choice, runs = study.choice(key), study.runs(key)
    if lost := lost_in(study, key):
        raise StoreError(f"{where}: {lost.words} lost to the machine. Run with --retry-failed")
    if choice is None and any(run.status == "failed" for run in runs):
        detail = next(run.detail for run in runs if run.status == "failed")
        raise StoreError(f"{where}: {detail}, so there is no row. Fix the method and run it again")
    if record is None or choice is None or len(runs) != asked:
        raise StoreError(
            f"{where} has {len(runs)} of {asked} runs: not finished. Run the same command again"
        )
    if failed := [r for r in runs if r.status == "failed" and r.reason != "non_finite"]:
        said = f"seed {failed[0].seed} failed ({failed[0].reason})"
        raise StoreError(f"{where}: {said}. Fix the method and run it again")
    for run in runs:
        _check_one_environment(run, where)
    if key.repeat == 0 and all(run.status == "failed" for run in runs):
        raise StoreError(f"{where}: every run diverged, so there is no number to submit")
    found = {run.seed: _values(study, run, where) for run in runs if run.status == "done"}
    return Finished(key, record, choice, study.trials(key), runs, found)


def _values(study: Study, run: RunRecord, where: str) -> bytes:
    """Return what a run found for every query; raise StoreError if its file is gone or another."""
    try:
        if why := fault(study.out, run):
            raise StoreError(
                f"{where}: the per-query results of seed {run.seed} are {why}, and a row holds "
                "them. Remove that seed's records and run it again"
            )
        reported = "map_at_10" in (run.concatenated or {})
        found = read_queries(study.out, run, values.names(reported=reported))
    except (OSError, ValueError, BadZipFile) as error:
        raise StoreError(f"{where}: the per-query results of seed {run.seed}: {error}") from error
    if isinstance(found, str):
        raise StoreError(f"{where}: {found}")
    return values.pack(found)


def _space(record: CellRecord, protocol: Protocol, registry: Registry) -> Space:
    """Return the cell's search space, from the code that ran and no other."""
    code = registry.code_digest("method", record.method)
    if code != record.identity["method_code"]:
        raise StoreError(
            f"the code of {record.method!r} is not that of the study any more "
            f"({code}, the study has {record.identity['method_code']}). Run it again"
        )
    method = registry.load("method", record.method)
    with told("the search space", method):
        space: Space = method.space(record.dataset, protocol.search.bounds)
        described(space)
    return space


def _check_one_environment(run: RunRecord, where: str) -> None:
    """Raise StoreError if the folds of a run met two machines, versions or commits."""
    made_with = environment_of(run)
    unlike = [f"{name} {made_with[name]}" for name in mixed(made_with) if name in ENVIRONMENT]
    if unlike:
        raise StoreError(
            f"{where}: the folds of seed {run.seed} were trained in unlike environments "
            f"({'; '.join(unlike)}), and a row of results/ has one. Remove that seed's records "
            "and run it again"
        )
