"""The commands around results/: hand rows in, rerun one, check them all."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from benchmark.commands.lines import counted
from benchmark.engines.machine import check_own_folder
from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.study.folder import Study, load_study
from benchmark.submissions import claims, git, leaderboard, signatures
from benchmark.submissions.kept import unchecked
from benchmark.submissions.packing import environment_of
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.remake import remakes
from benchmark.submissions.rerun import lay_out_rerun, submit_challenge
from benchmark.submissions.submit import Which, submit_rows
from benchmark.submissions.submit_watched import submit_watched
from benchmark.submissions.took import seconds_of
from benchmark.submissions.verify import examine
from benchmark.submissions.voided import read_voids, void_of
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError
from protocols.names import one_line

_NOT_SEEN = (
    "numbers made up consistently, per-query values and all, cannot be told from measured ones "
    "here: whoever doubts a row reruns it (python -m benchmark rerun ROW --out DIR)"
)


def submit(args: argparse.Namespace) -> int:
    """Copy a study's finished cells into results/ and rebuild the leaderboard.

    Everything is checked before the first file is written.
    """
    print(one_line(f"reading {args.study}"), flush=True)
    study = load_study(args.study)
    if study is None:
        raise StoreError(f"no study in {args.study}. Name the --out folder of a finished one")
    _check(args)
    sign = cache(partial(_signed, args, study))
    if args.challenge:
        written = submit_challenge(
            study,
            args.challenge,
            args.results,
            lambda: sign().challenge(),
            Which(args.methods or (), args.datasets or ()),
        )
    else:
        written = _submitted(args, study, sign)
    if args.sign:
        written += _sign(args, written)
    written += leaderboard.write(args.results)
    for path in written:
        print(path)
    if sign.cache_info().currsize:
        again = ", and sign again" if args.sign else ""
        print(
            f"recorded as run by {sign().who}, on {sign().hardware}; if not, correct the new "
            f".toml{again}"
        )
    if args.sign and not signatures.is_known(args.results, written):
        print(
            "signed with a key that is not in results/allowed_signers: shown as unsigned until a "
            "maintainer adds it; name your public key in the pull request"
        )
    if edited := _of_edited_code(written):
        print(
            f"verify refuses {counted(len(edited), 'row')} of these ({edited[0]}): the runs are of "
            "a checkout with uncommitted changes. Commit, run into a new --out folder, remove "
            "these rows and submit that study"
        )
    print(f"then check it: python -m benchmark {shlex.join(('verify', str(args.results)))}")
    return DONE


def _of_edited_code(written: Sequence[Path]) -> list[Path]:
    """Return the folders of rows whose runs were made by code that no commit holds."""
    runs = [path for path in written if path.name.startswith("seed-")]
    return sorted({p.parent for p in runs if json.loads(p.read_bytes())["environment"]["dirty"]})


def _submitted(
    args: argparse.Namespace, study: Study, sign: Callable[[], claims.Signer]
) -> list[Path]:
    """Return the files of rows, or beside rows, that were written; say what was not."""
    which = Which(args.methods or (), args.datasets or ())
    if study.protocol.oracle_gap:
        done = submit_watched(study, args.results, which)
    else:
        registry = Registry(tuple(args.plugin))
        claim = (lambda: _claim(args.claim)) if args.claim else (lambda: sign().claim())
        done = submit_rows(study, args.results, registry, claim, which)
    for folder, commit in done.replaced.items():
        print(f"{folder} replaces the row of commit {commit[:12]}, which its claim names")
    for folder in done.there:
        if study.protocol.oracle_gap:
            print(f"{folder} has watched runs already, which stay")
        else:
            print(f"{folder} is there already and stays (rerun by others: submit --challenge DATE)")
    for line in done.left_out:
        print(one_line(f"left out: {line}"))
    return done.written


def _check(args: argparse.Namespace) -> None:
    """Raise InvalidInputError where options of ``submit`` say two things, or the key is none."""
    if args.claim and args.challenge:
        raise InvalidInputError(
            "--claim is for a row of your own; of a --challenge say --who and --hardware"
        )
    if args.claim and (args.who or args.hardware or args.price_per_hour):
        raise InvalidInputError("--claim says who and on what already; leave the other options out")
    if args.challenge and args.price_per_hour:
        raise InvalidInputError("--price-per-hour stands in a claim; a challenge has none")
    if args.sign:
        signatures.check_key(args.sign)


def _claim(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"--claim {str(path)!r}: {error.strerror}") from error


def _signed(args: argparse.Namespace, study: Study) -> claims.Signer:
    """Return who hands in; somebody at a terminal is asked what the command does not say."""
    runs = (run for key in study.cells for run in study.runs(key))
    device = next((environment_of(run).get("device") for run in runs), None) or "an unknown device"
    seated = sys.stdin.isatty() and sys.stdout.isatty()
    found = claims.signer(args.who, args.hardware, Path(), device, _ask if seated else None)
    if args.price_per_hour is None:
        return found
    amount, currency = args.price_per_hour
    return replace(found, price=f"{amount:.6f}".rstrip("0").rstrip(".") + f" {currency}")


def _ask(what: str, usual: str) -> str:
    try:
        return input(f"{what}{f' [{usual}]' if usual else ''}? ").strip() or usual
    except EOFError as error:
        raise InvalidInputError(f"{what}? Give --who and --hardware") from error


def _sign(args: argparse.Namespace, written: Sequence[Path]) -> list[Path]:
    """Sign the rows or reruns that were written, and rows that are there if they are named.

    What somebody else submitted is not signed by whoever happens to have run it too.
    """
    name = f"challenge-{args.challenge}" if args.challenge else signatures.CLAIM
    tomls = {path for path in written if path.name == f"{name}.toml"}
    folders = {path.parent for path in tomls}
    if args.methods:
        mine = {
            row.place: row for row in (kept.row for kept in unchecked(args.results)) if row.cell
        }
        named = (place for place, row in mine.items() if row.cell and row.cell.row in args.methods)
        folders |= {args.results / place for place in named}
    return [
        signatures.sign(args.results, folder, name, args.sign)
        for folder in sorted(folders)
        if (folder / f"{name}.toml").is_file()
    ]


def rerun(args: argparse.Namespace) -> int:
    """Lay out a study that only has to run the final runs of a claim's chosen setting.

    Under ``--oracle-gap`` all of them, to be watched on the test classes. Under ``--voided`` print
    the studies that make all void rows anew.
    """
    if args.voided and args.oracle_gap:
        raise InvalidInputError("--voided and --oracle-gap: choose one of the two")
    if args.voided:
        return _remake(args)
    if args.row is None:
        raise InvalidInputError("expected a row like results/quick/emoji/ms, or --voided")
    check_own_folder(args.out)
    cell = lay_out_rerun(args.row, args.out)
    words = ["run", "--protocol", cell.protocol, "--methods", cell.method]
    trunk, _, weights = cell.trunk.partition("+")  # a trunk with weights says which behind a plus
    words += ["--datasets", cell.dataset, "--trunks", trunk, "--recipes", cell.recipe]
    words += ["--oracle-gap"] if args.oracle_gap else ["--seeds", "2"]
    words += ["--out", str(args.out)]
    if cell.method not in Registry().names("method"):
        words += ["--plugin", f"{cell.method}.py"]
    hand_in = ["submit", str(args.out), "--methods", cell.method]
    if args.oracle_gap:
        print("the row's choice is in place; now run it again, watched on test, then submit that:")
    else:
        hand_in += ["--challenge", "YEAR-MONTH-DAY"]
        print("the claim's choice is in place; now run at least two seeds of it, then submit them:")
    print(f"  python -m benchmark {shlex.join(words)}")
    if weights:
        print(f"    and --weights, the file or the name of {weights}")
    print(f"  python -m benchmark {shlex.join(hand_in)}")
    return DONE


def _remake(args: argparse.Namespace) -> int:
    """Print the commands that make void rows anew, and what they took before."""
    results = args.row or Path("results")
    voids = read_voids()
    void = [kept.row for kept in unchecked(results) if void_of(kept.row.cell, voids)]
    for study in remakes(void, args.out):
        took = f"{counted(study.rows, 'row')}, {study.seconds / 3600:.2f} h of trainings before"
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
    found = examine(results, history, args.since)
    for message, path in found.problems:
        print(one_line(f"{message} @ {results}/{path}"))
    for line in (*found.looks, *(f"{place}: {why}" for place, why in found.unread.items())):
        print(one_line(f"please review: {line}"), file=sys.stderr)
    void = _say_void(found.rows)
    if not signatures.can_check() and any(results.glob(f"*/*/*/*{signatures.SUFFIX}")):
        print("please review: signatures were not checked: no ssh-keygen here", file=sys.stderr)
    rows, count = counted(len(found.rows), "row"), len(found.problems)
    apart = f"{found.stale} stale, {void} void" if void else f"{found.stale} stale"
    print(f"{rows}, {apart}; {counted(count, 'problem')}", file=sys.stderr)
    further = sum(len(row.further) for row in found.rows)
    watched = sum(len(row.watched) for row in found.rows)
    if further or watched:
        beside = (
            counted(further, "further search", "further searches"),
            counted(watched, "watched run"),
        )
        print(f"besides: {' and '.join(beside)}, counted in no table", file=sys.stderr)
    print(git.said_of(history), file=sys.stderr)
    if len(found.rows) > found.stale:
        print(_NOT_SEEN, file=sys.stderr)
    return BAD_INPUT if count else DONE


def _say_void(rows: Sequence[SubmittedRow]) -> int:
    """Print each void row with the reason and the cost of making it anew; return how many."""
    voids, count = read_voids(), 0
    for row in rows:
        if entry := void_of(row.cell, voids):
            count += 1
            cost = f"{seconds_of(row) / 3600:.2f} h of trainings, wall-clock, to make it again"
            what = f"{entry.what} {entry.name}"
            line = f"void: {row.place}: {what}, since {entry.since}: {entry.why} ({cost})"
            print(one_line(line), file=sys.stderr)
    if count:
        print("all of them: python -m benchmark rerun --voided --out DIR", file=sys.stderr)
    return count
