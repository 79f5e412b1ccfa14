"""The commands around datasets: what there is, bring it in, look for what is wrong with it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from benchmark.commands.lines import counted, say
from benchmark.exit_codes import DONE, FAILED_JOBS
from benchmark.intake.inspect import NOTES, PROBLEMS, Finding, to_csv
from benchmark.intake.inspect import check as find_problems
from benchmark.intake.prepare import Prepared
from benchmark.intake.prepare import prepare as bring_in
from benchmark.intake.understood import (
    check_command,
    lines,
    next_command,
    own_labels,
    sizes_of,
    split,
)
from benchmark.intake.unpack import OnProgress
from benchmark.study import aliases
from benchmark.study.datasets import check_name
from protocols import manifest
from protocols.datasets._official import Official
from protocols.datasets._own import Reading
from protocols.decoding import shown
from protocols.discovery import Registry, split_name
from protocols.errors import DataError, InvalidInputError
from protocols.names import one_line

INDENT = "    "
SPLIT = "split.csv"  # beside the manifest of own images
SHOWN = 10  # findings of a kind that are printed; all are in the file


def prepare(args: argparse.Namespace) -> int:
    """Bring a dataset in from its archives, from a folder or from the web, and verify it."""
    root, registry = _root(args), Registry()
    name = aliases.opened(args.name, root)
    check_name(name, registry, root)
    own = hasattr(registry.load("dataset", name), "own_images")
    if args.word is not None:
        if not own:
            raise InvalidInputError("--name is for images of your own: folder:PATH or csv:FILE")
        _check_there(name)
        aliases.check(args.word, name, root, registry)
    with _bar() as progress:
        done = bring_in(
            name,
            root,
            args.archive,
            download=args.download,
            progress=progress,
            reading=Reading(args.class_level, args.labels),
        )
    if args.word is not None:
        aliases.keep(args.word, name, root)
    header = done.header
    print(one_line(f"{args.name}: {header.images:,} images in {header.classes:,} classes"))
    where = f"{'prepared' if done.fresh else 'was prepared already'}: {shown(done.folder)}"
    print(one_line(where))
    print(f"digest {header.digest}")
    if own:
        _say_other_words(args.word, name, root)
        _say_understood(done, args.word or aliases.word_of(name, root) or name, name, root)
    else:
        for note in done.notes:
            print(f"- {note}")
    return DONE


def _check_there(name: str) -> None:
    """Raise DataError where own images are not in the place that ``name`` gives."""
    place = split_name(name)[1]
    if place and not Path(place).expanduser().exists():
        raise DataError(f"{place}: no such file or folder")


def _say_other_words(word: str | None, name: str, root: Path) -> None:
    """Print by which words the same images are known beside ``word``; any of them opens them."""
    same = (w for w, held in aliases.known(root).items() if held == aliases.absolute(name))
    if word is not None and (others := sorted(set(same) - {word})):
        print(f"known as {', '.join(others)} too")


def _say_understood(done: Prepared, word: str, name: str, root: Path) -> None:
    """Print what was understood of own images, and what to do next."""
    _, rows = manifest.read(done.folder / manifest.FILE, name)
    known = own_labels(rows, done.header.digest)
    check, sizes = check_command(word, root), sizes_of(rows, done.folder)
    sides = done.folder / SPLIT
    sides.write_bytes(split(rows, known))
    which = f"which image trains and which tests: {shown(sides)}"
    for line in (*done.notes, *lines(rows, known, sizes, check), which):
        print(f"- {one_line(line)}")
    print("next:")
    for command in next_command(word, root, known, sizes).splitlines():
        print(f"  {one_line(command)}")


def check(args: argparse.Namespace) -> int:
    """Print all that is wrong or odd about a dataset; exit code 3 if something is wrong."""
    name = aliases.opened(args.name, args.root)
    check_name(name, Registry(), args.root)
    module = Registry().load("dataset", name)
    if not hasattr(module, "OFFICIAL") and not hasattr(module, "own_images"):
        dataset = module.load(None)
        print(f"{args.name}: ships with the code, {len(dataset.labels):,} images verified")
        return DONE
    folder = manifest.place(_root(args), name)
    with _bar() as progress:
        findings = find_problems(folder, name, progress)
    report = folder / "check.csv"
    unwritten = _unwritten(report, to_csv(findings))
    console = Console()
    _print_counts(console, findings)
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        _print_examples(console, kind, list(group))
    problems = sum(finding.kind in PROBLEMS for finding in findings)
    notes = counted(len(findings) - problems, "note")
    where = "" if unwritten else f"; all in {shown(report)}"
    print(f"{counted(problems, 'problem')}, {notes}{where}")
    if unwritten:
        print(
            f"{shown(report)} could not be written: {unwritten}. Up to {SHOWN} of a kind are shown "
            "above; make it writable and check again for the file of all"
        )
    return FAILED_JOBS if problems else DONE


def _unwritten(path: Path, content: bytes) -> str:
    """Write a file; return why it cannot be, "" where it is written."""
    try:
        path.write_bytes(content)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def list_data(args: argparse.Namespace) -> int:
    """Print the datasets, which of them are prepared, and where to get the others."""
    console, registry = Console(), Registry()
    for name in registry.names("dataset"):
        about = registry.summary("dataset", name)
        _say_dataset(
            console, registry.usage("dataset", name), about, _state(registry, name, args.root)
        )
    for word, held in sorted(aliases.known(args.root).items()):
        _say_dataset(console, word, f"Your own images: {held}", _prepared(held, args.root))
    return DONE


def _say_dataset(console: Console, name: str, *about: str) -> None:
    """Print a name and what is to be said of it, broken at blanks alone: addresses stay whole."""
    console.print(Text(one_line(name), style="bold"), soft_wrap=True)
    for words in about:
        for line in wrap(
            one_line(words),
            console.width - len(INDENT),
            break_long_words=False,
            break_on_hyphens=False,
        ):
            say(console, INDENT + line)


def _prepared(name: str, root: Path) -> str:
    try:
        header = manifest.read_header(manifest.place(root, name) / manifest.FILE, name)
    except DataError:
        return f"not prepared in {root} any more"
    return f"prepared: {header.images:,} images in {header.classes:,} classes"


def _state(registry: Registry, name: str, root: Path | None) -> str:
    """Return where a dataset stands: shipped, prepared, or where to get it."""
    if registry.usage("dataset", name) != name:
        return f"bring yours in: data prepare {registry.usage('dataset', name)}"
    official: Official | None = getattr(registry.load("dataset", name), "OFFICIAL", None)
    if official is None:
        return "ships with the code"
    try:
        header = manifest.read_header(manifest.place(root or Path(), name) / manifest.FILE, name)
    except DataError:
        how = "--download, or --archive with" if official.addresses else "--archive with"
        return f"not prepared{f' in {root}' if root else ''}: {how} {official.by_hand}"
    return f"prepared: {header.images:,} images in {header.classes:,} classes"


def _print_counts(console: Console, findings: Sequence[Finding]) -> None:
    counts = Counter(finding.kind for finding in findings)
    table = Table("", "kind", "count", "meaning", box=None)
    for word, kinds in (("problem", PROBLEMS), ("note", NOTES)):
        for kind, meaning in kinds.items():
            if counts[kind]:
                table.add_row(word, kind, f"{counts[kind]:,}", meaning)
    if findings:
        console.print(table, highlight=False, markup=False)


def _print_examples(console: Console, kind: str, group: Sequence[Finding]) -> None:
    console.print(f"\n{kind}: {len(group):,}", style="bold", highlight=False, markup=False)
    for finding in group[:SHOWN]:
        line = f"  {shown(Path(finding.path))}: {finding.detail}"
        say(console, line)
    if len(group) > SHOWN:
        console.print(f"  and {len(group) - SHOWN:,} more", highlight=False)


def _root(args: argparse.Namespace) -> Path:
    if args.root is None:
        raise InvalidInputError("say where prepared datasets lie: --root DIR")
    root: Path = args.root
    return root


@contextmanager
def _bar() -> Iterator[OnProgress]:
    """Give a callback that draws a bar per step on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(escape(what))
            bar.update(tasks[what], completed=done, total=total or None)

        yield progress
