"""The commands around results/: hand rows in, rerun one, check them all."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import cache, partial
from pathlib import Path

from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.study.folder import Study, load_study
from benchmark.submissions import claims, git, leaderboard
from benchmark.submissions.packing import environment_of
from benchmark.submissions.rerun import lay_out_rerun, submit_challenge
from benchmark.submissions.submit import submit_rows
from benchmark.submissions.verify import examine
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
    study = load_study(args.study)
    if study is None:
        raise StoreError(f"no study in {args.study}. Name the --out folder of a finished one")
    if args.claim and (args.who or args.hardware or args.challenge):
        raise InvalidInputError("--claim says who and on what already; leave the other options out")
    sign = cache(partial(_signed, args, study))
    if args.challenge:
        written = submit_challenge(study, args.challenge, args.results, lambda: sign().challenge())
    else:
        registry = Registry(tuple(args.plugin))
        claim = (lambda: _claim(args.claim)) if args.claim else (lambda: sign().claim())
        done = submit_rows(study, args.results, registry, claim, args.methods or ())
        written = done.written
        for folder in done.there:
            print(f"{folder} is there already and stays (rerun by others: submit --challenge DATE)")
    written += leaderboard.write(args.results)
    for path in written:
        print(path)
    if sign.cache_info().currsize:
        print(f"by {sign().who}, on {sign().hardware}: correct the new .toml files if it is not so")
    print(f"then check it: python -m benchmark {shlex.join(('verify', str(args.results)))}")
    return DONE


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
    return claims.signer(args.who, args.hardware, Path(), device, _ask if seated else None)


def _ask(what: str, usual: str) -> str:
    try:
        return input(f"{what}{f' [{usual}]' if usual else ''}? ").strip() or usual
    except EOFError as error:
        raise InvalidInputError(f"{what}? Give --who and --hardware") from error


def rerun(args: argparse.Namespace) -> int:
    """Lay out a study that only has to run the final runs of a claim's chosen setting."""
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
        print(one_line(f"for a human look: {line}"), file=sys.stderr)
    count = len(found.problems)
    print(f"{found.rows} row(s), {found.stale} stale; {count} problem(s)", file=sys.stderr)
    print(git.said_of(history), file=sys.stderr)
    if found.rows > found.stale:
        print(_NOT_SEEN, file=sys.stderr)
    return BAD_INPUT if count else DONE
