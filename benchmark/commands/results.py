"""The commands around results/: hand rows in, rerun one, check them all."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.study.folder import load_study
from benchmark.submissions import git, leaderboard, read, signatures
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.remake import remakes
from benchmark.submissions.rerun import lay_out_rerun, submit_challenge
from benchmark.submissions.submit import submit_rows
from benchmark.submissions.verify import examine
from benchmark.submissions.voided import read_voids, seconds_of, void_of
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError

_NOT_SEEN = (
    "numbers made up consistently, per-query values and all, cannot be told from measured ones "
    "here: whoever doubts a row reruns it (python -m benchmark rerun ROW --out DIR)"
)


def submit(args: argparse.Namespace) -> int:
    """Copy a study's finished cells into results/ and rebuild the leaderboard.

    Everything is checked before the first file is written.
    """
    study = load_study(args.study)
    if study is None:
        raise StoreError(f"no study in {args.study}. Name the --out folder of a finished one")
    if args.sign:
        signatures.check_key(args.sign)
    if args.challenge:
        written = submit_challenge(study, args.challenge, args.results)
    else:
        registry = Registry(tuple(args.plugin))
        done = submit_rows(study, args.results, registry, args.claim, args.methods or ())
        written = done.written
        for folder in done.there:
            print(f"{folder} is there already and stays (rerun by others: submit --challenge DATE)")
    if args.sign:
        written += _sign(args, written)
    written += leaderboard.write(args.results)
    for path in written:
        print(path)
    forms = [path for path in written if path.suffix == ".toml"]
    if forms and not args.claim:
        print(f"fill in by hand: {', '.join(map(str, forms))}")
    print(f"then check it: python -m benchmark {shlex.join(('verify', str(args.results)))}")
    return DONE


def _sign(args: argparse.Namespace, written: Sequence[Path]) -> list[Path]:
    """Sign the rows or reruns that were written, and rows that are there if they are named.

    What somebody else submitted is not signed by whoever happens to have run it too.
    """
    name = f"challenge-{args.challenge}" if args.challenge else signatures.CLAIM
    tomls = {path for path in written if path.name == f"{name}.toml"}
    folders = {path.parent for path in tomls}
    if args.methods:
        mine = {row.place: row for row in _rows(args.results) if row.cell}
        named = (place for place, row in mine.items() if row.cell and row.cell.row in args.methods)
        folders |= {args.results / place for place in named}
    return [
        signatures.sign(args.results, folder, name, args.sign)
        for folder in sorted(folders)
        if (folder / f"{name}.toml").is_file()
    ]


def rerun(args: argparse.Namespace) -> int:
    """Lay out a study that only has to run the final runs of a claim's chosen setting.

    Under ``--voided`` print the studies that make all void rows anew.
    """
    if args.voided:
        return _remake(args)
    if args.row is None:
        raise InvalidInputError("expected a row like results/quick/emoji/ms, or --voided")
    cell = lay_out_rerun(args.row, args.out)
    words = ["run", "--protocol", cell.protocol, "--methods", cell.method]
    words += ["--datasets", cell.dataset, "--trunks", cell.trunk, "--recipes", cell.recipe]
    words += ["--seeds", "2", "--out", str(args.out)]
    if cell.method not in Registry().names("method"):
        words += ["--plugin", f"{cell.method}.py"]
    hand_in = ["submit", str(args.out), "--challenge", "YEAR-MONTH-DAY"]
    print("the claim's choice is in place; now run at least two seeds of it, then submit them:")
    print(f"  python -m benchmark {shlex.join(words)}")
    print(f"  python -m benchmark {shlex.join(hand_in)}")
    return DONE


def _remake(args: argparse.Namespace) -> int:
    """Print the commands that make void rows anew, and what they took before."""
    results = args.row or Path("results")
    voids = read_voids()
    void = [row for row in _rows(results) if void_of(row.cell, voids)]
    for study in remakes(void, args.out):
        took = f"{study.rows} row(s), {study.seconds / 3600:.2f} h of trainings before"
        weights = f"; add --weights, the file with {study.weights}" if study.weights else ""
        print(f"# {took}{weights}")
        print(f"python -m benchmark {shlex.join(study.words)}")
    if not void:
        print(f"no row of {results} is void")
    return DONE


def verify(args: argparse.Namespace) -> int:
    """Print every problem as ``message @ path``; return 0 without one, 2 otherwise."""
    results: Path = args.results
    if not results.is_dir():
        raise InvalidInputError(f"no folder {str(results)!r}; expected one like results")
    if args.rebuild:
        for written in leaderboard.write(results):
            print(f"wrote {written}")
    history = git.find(results)
    rows = _rows(results)
    found = examine(results, rows, history, args.since)
    for message, path in found.problems:
        print(_printable(f"{message} @ {results}/{path}"))
    for line in (*found.looks, *(f"{place}: {why}" for place, why in found.unread.items())):
        print(_printable(f"for a human look: {line}"), file=sys.stderr)
    void = _say_void(rows)
    if not signatures.can_check() and any(results.glob(f"*/*/*/*{signatures.SUFFIX}")):
        print("for a human look: signatures were not checked: no ssh-keygen here", file=sys.stderr)
    known = leaderboard.shipped_protocols()
    stale = sum(r.cell is not None and not leaderboard.is_current(r.cell, known) for r in rows)
    count = len(found.problems)
    apart = f"{stale} stale, {void} void" if void else f"{stale} stale"
    print(f"{len(rows)} row(s), {apart}; {count} problem(s)", file=sys.stderr)
    print(git.said_of(history), file=sys.stderr)
    if len(rows) > stale:
        print(_NOT_SEEN, file=sys.stderr)
    return BAD_INPUT if count else DONE


def _rows(results: Path) -> list[SubmittedRow]:
    return [read.read_row(results, folder) for folder in read.row_folders(results)]


def _say_void(rows: Sequence[SubmittedRow]) -> int:
    """Print each void row with the reason and the cost of making it anew; return how many."""
    voids, count = read_voids(), 0
    for row in rows:
        if entry := void_of(row.cell, voids):
            count += 1
            cost = f"{seconds_of(row) / 3600:.2f} h of trainings to make it anew"
            what = f"{entry.what} {entry.name}"
            line = f"void: {row.place}: {what}, since {entry.since}: {entry.why} ({cost})"
            print(_printable(line), file=sys.stderr)
    if count:
        print("all of them: python -m benchmark rerun --voided --out DIR", file=sys.stderr)
    return count


def _printable(text: str) -> str:
    """Return ``text`` on one line, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
