"""Finished cells of a study, copied into results/; and the way back, for somebody's rerun."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.study import records
from benchmark.study.environment import PACKAGES
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import CellRecord, ChoiceRecord, RunRecord, TrialRecord
from benchmark.submissions import schema
from benchmark.submissions.leaderboard import shipped_protocols
from benchmark.submissions.read import CHALLENGE, Row, read_row
from benchmark.submissions.schema import Cell
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import Protocol, digest
from protocols.space import Space, described

_ENVIRONMENT = ("python", "device", "deterministic", "commit", "dirty", *PACKAGES)

CLAIM = """\
# What the records cannot know. Fill in who and hardware; leave the others empty if there is none.
who = ""
hardware = ""
deviations = ""
predecessor = ""  # commit that holds the rows which these replace
note = ""
"""
CHALLENGE_FORM = """\
# Somebody else's rerun of the claim beside it. Fill in who and hardware.
who = ""
hardware = ""
note = ""
"""


@dataclass(frozen=True)
class Finished:
    """All records of one finished cell."""

    key: CellKey
    record: CellRecord
    choice: ChoiceRecord
    trials: list[TrialRecord]
    trial_seconds: list[float]
    runs: list[RunRecord]


def submit_rows(study: Study, results: Path, registry: Registry, claim: Path | None) -> list[Path]:
    """Copy the study's finished cells below ``results``; return the files written.

    Args:
        study: every cell of it must be finished.
        results: the folder.
        registry: knows the methods' code, which must still be the study's.
        claim: a filled-in claim.toml for every new row; None writes the empty form.

    Raises:
        StoreError: a cell is unfinished, the rules are not a shipped protocol's, or a file
            exists with another content; nothing is written then.
    """
    files: dict[Path, bytes] = {}
    form = _claim(claim)
    shipped = check_protocol(study)
    for key in study.cells:
        folder = results / _place(shipped, key)
        finished = _finished(study, key, study.protocol.seeds)
        space = _space(finished.record, shipped, registry)
        files |= _row_files(folder, finished, shipped, space)
        if not (folder / "claim.toml").exists():
            files[folder / "claim.toml"] = form
    return write_once(files)


def submit_challenge(study: Study, date: str, results: Path) -> list[Path]:
    """Copy the runs of a rerun beside the claims that it reran; return the files written."""
    return write_once(_challenge_files(study, date, results))


def lay_out_rerun(row: Path, out: Path) -> Cell:
    """Write the claim of ``row`` and its choice into ``out``, so that only runs are left to do.

    Args:
        row: folder of a row, like results/quick/emoji/ms.
        out: output folder of the rerun.

    Returns:
        The claim's cell.

    Raises:
        StoreError: there is no such row, or ``out`` holds the cell already.
    """
    folder = row.resolve()
    cell = _claimed(folder.parents[2], folder)
    record = CellRecord(
        id=cell.id,
        protocol=cell.protocol,
        protocol_version=cell.protocol_version,
        dataset=cell.dataset,
        trunk=cell.trunk,
        recipe=cell.recipe,
        method=cell.method,
        row=cell.row,
        identity=cell.identity,
    )
    chosen = cell.chosen
    choice = ChoiceRecord(
        id=digest([cell.id, "choice", chosen.trial, chosen.settings], 16),
        cell=cell.id,
        **chosen.model_dump(),
    )
    key = CellKey(cell.id, cell.dataset, cell.trunk, cell.recipe, cell.method, cell.row)
    target = out / "records" / key.path
    if target.exists():
        raise StoreError(f"{target} exists already; give the rerun a folder of its own with --out")
    records.write(target / "cell.json", record)
    records.write(target / "choice.json", choice)
    return cell


def check_protocol(study: Study, *, any_seeds: bool = False) -> Protocol:
    """Return the protocol as it ships; raise StoreError if the study kept to another one."""
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
    changed = {k: v for k, v in ours.overrides.items() if k not in ("trunk", "recipe")}
    if any_seeds:
        changed.pop("seeds", None)
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
                f"{path} exists and differs: what is submitted is never edited. To replace the "
                "row, remove its folder and name the commit that holds it as the claim's "
                "predecessor"
            )
    fresh = [path for path in files if not path.exists()]
    for path in fresh:
        records.write_bytes(path, files[path])
    return fresh


def _place(protocol: Protocol, key: CellKey) -> str:
    default = (protocol.trunk, protocol.recipe)
    folder = schema.folder_name(key.row, key.trunk, key.recipe, default)
    return schema.place_of(protocol.name, key.dataset, folder)


def _claim(path: Path | None) -> bytes:
    if path is None:
        return CLAIM.encode()
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"--claim {str(path)!r}: {error.strerror}") from error


def _finished(study: Study, key: CellKey, seeds: int) -> Finished:
    """Return the records of a cell; raise StoreError if one is missing or the machine failed."""
    folder, where = study.folder(key), f"{study.out}: {key.row} on {key.dataset}"
    record = records.read(folder / "cell.json", CellRecord)
    choice, runs = study.choice(key), study.runs(key)
    if record is None or choice is None or len(runs) != seeds:
        raise StoreError(
            f"{where} has {len(runs)} of {seeds} runs: not finished. Run the same command again"
        )
    lost = next((r for r in runs if r.status == "failed" and r.reason != "non_finite"), None)
    if lost:
        raise StoreError(
            f"{where}: seed {lost.seed} failed ({lost.reason}), which says nothing of the "
            "method. Remove its record and run it again"
        )
    if all(run.status == "failed" for run in runs):
        raise StoreError(f"{where}: every run diverged, so there is no number to submit")
    trials = study.trials(key)
    jobs = [[j for j in study.jobs(key, "search", t.number) if j] for t in trials]
    seconds = [round(sum(j.measured.get("seconds", 0.0) for j in found), 3) for found in jobs]
    return Finished(key, record, choice, trials, seconds, runs)


def _space(record: CellRecord, protocol: Protocol, registry: Registry) -> Space:
    """Return the cell's search space, from the code that ran and no other."""
    code = registry.code_digest("method", record.method)
    if code != record.identity["method_code"]:
        raise StoreError(
            f"the code of {record.method!r} is not that of the study any more "
            f"({code}, the study has {record.identity['method_code']}). Run it again"
        )
    method = registry.load("method", record.method)
    space: Space = method.space(record.dataset, protocol.search.bounds)
    return space


def _row_files(
    folder: Path, finished: Finished, protocol: Protocol, space: Space
) -> dict[Path, bytes]:
    """Return the content of every file of a row but its claim."""
    trials = schema.pack_trials(
        [
            _trial(trial, seconds)
            for trial, seconds in zip(finished.trials, finished.trial_seconds, strict=True)
        ]
    )
    choice = finished.choice
    cell = {
        "schema": schema.SCHEMA,
        **asdict(finished.record),
        "protocol_hash": protocol.hash(),
        "seeds": protocol.seeds,
        "space": described(space),
        "chosen": {k: getattr(choice, k) for k in ("rule", "trial", "settings", "value")},
        "trials_sha256": hashlib.sha256(trials).hexdigest(),
    }
    found = {folder / Cell.file: schema.pack(cell), folder / "trials.jsonl": trials}
    return found | {folder / f"seed-{r.seed}.json": schema.pack(_run(r)) for r in finished.runs}


def _trial(trial: TrialRecord, seconds: float) -> dict[str, Any]:
    names = ("id", "number", "status", "reason", "settings", "folds", "value")
    return {**{name: getattr(trial, name) for name in names}, "seconds": seconds}


def _run(run: RunRecord) -> dict[str, Any]:
    """Return a run's fields; words for people and where files lay stay behind."""
    names = (
        "cell",
        "id",
        "seed",
        "status",
        "reason",
        "settings",
        "folds",
        "separated",
        "concatenated",
        "validation",
        "best_steps",
        "excluded",
        "ties",
        "embeddings_sha256",
        "embeddings_shape",
        "counts",
    )
    measured = run.measured
    made_with = measured.get("environment", {})
    environment = {name: made_with[name] for name in _ENVIRONMENT if name in made_with}
    return {
        "schema": schema.SCHEMA,
        **{name: getattr(run, name) for name in names},
        "folds": [_compared(fold) for fold in run.folds],
        "queries_sha256": run.queries["sha256"] if run.queries else None,
        "openings": len(run.openings),
        **{name: measured.get(name, 0.0) for name in ("seconds", "train_s")},
        "peak_memory_mb": measured.get("peak_memory_mb", 0),
        "environment": {**environment, "system": made_with.get("system", "unknown").split("-")[0]},
    }


def _compared(scores: Metrics | None) -> Metrics | None:
    """Return a fold's scores without what is reported alone, which a row holds of whole runs."""
    return scores and {name: scores[name] for name in METRICS}


def _claimed(results: Path, folder: Path) -> Cell:
    """Return the cell of a row in results/."""
    if not folder.is_dir():
        raise StoreError(f"no row {str(folder)!r}; expected a folder like results/quick/emoji/ms")
    row: Row = read_row(results, folder)
    if row.cell is None:
        message, path = row.problems[0] if row.problems else ("no cell.json", row.place)
        raise StoreError(f"{results / path}: {message}")
    return row.cell


def _challenge_files(study: Study, date: str, results: Path) -> dict[Path, bytes]:
    """Return the files of a rerun, to lie beside the claim that it reran."""
    name = f"challenge-{date}"
    if not CHALLENGE.fullmatch(name):
        raise InvalidInputError(f"--challenge {date!r}: expected a date like 2026-01-31")
    shipped = check_protocol(study, any_seeds=True)
    files: dict[Path, bytes] = {}
    for key in study.cells:
        folder = results / _place(shipped, key)
        if not (folder / Cell.file).is_file():
            continue  # a reference row that the rerun brought along and nobody claims
        claimed = _claimed(results, folder)
        finished = _finished(study, key, study.protocol.seeds)
        if (claimed.id, claimed.chosen.settings) != (key.id, finished.choice.settings):
            raise StoreError(
                f"{study.out} ran another cell than {folder} claims: code, data, rules and "
                f"setting must be the claim's. See: python -m benchmark rerun {folder}"
            )
        runs = {folder / name / f"seed-{r.seed}.json": _run(r) for r in finished.runs}
        files |= {path: schema.pack(body) for path, body in runs.items()}
        if not (folder / f"{name}.toml").exists():
            files[folder / f"{name}.toml"] = CHALLENGE_FORM.encode()
    if not files:
        raise StoreError(f"nothing in {study.out} is a row of {results}")
    return files
