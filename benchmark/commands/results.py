"""The commands around results/: hand rows in, rerun one, check them all."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.study.folder import load_study
from benchmark.submissions import git, leaderboard
from benchmark.submissions.rerun import lay_out_rerun, submit_challenge
from benchmark.submissions.submit import submit_rows
from benchmark.submissions.verify import examine
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
    if args.challenge:
        written = submit_challenge(study, args.challenge, args.results)
    else:
        registry = Registry(tuple(args.plugin))
        done = submit_rows(study, args.results, registry, args.claim, args.methods or ())
        written = done.written
        for folder in done.there:
            print(f"{folder} is there already and stays (rerun by others: submit --challenge DATE)")
    written += leaderboard.write(args.results)
    for path in written:
        print(path)
    forms = [path for path in written if path.suffix == ".toml"]
    if forms and not args.claim:
        print(f"fill in by hand: {', '.join(map(str, forms))}")
    print(f"then check it: python -m benchmark {shlex.join(('verify', str(args.results)))}")
    return DONE


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
        print(_printable(f"{message} @ {results}/{path}"))
    for line in (*found.looks, *(f"{place}: {why}" for place, why in found.unread.items())):
        print(_printable(f"for a human look: {line}"), file=sys.stderr)
    count = len(found.problems)
    print(f"{found.rows} row(s), {found.stale} stale; {count} problem(s)", file=sys.stderr)
    print(git.said_of(history), file=sys.stderr)
    if found.rows > found.stale:
        print(_NOT_SEEN, file=sys.stderr)
    return BAD_INPUT if count else DONE


def _printable(text: str) -> str:
    """Return ``text`` on one line, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
