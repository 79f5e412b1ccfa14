"""The commands beside the main job."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmark import study as studies
from benchmark.cli import DONE, FAILED_JOBS, KINDS
from benchmark.study import Study
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TEMPLATES = Path(__file__).parent / "templates"


def list_names(args: argparse.Namespace) -> int:
    """Print known names with one line each."""
    console, registry = Console(), Registry(tuple(args.plugin))
    for kind in (args.kind,) if args.kind else KINDS:
        table = Table(title=kind, title_justify="left", box=None, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        single = kind.removesuffix("s")
        for name in registry.names(single):
            table.add_row(registry.usage(single, name), registry.summary(single, name))
        console.print(table, highlight=False)
        console.print()
    return DONE


def tables(args: argparse.Namespace) -> int:
    """Rebuild the tables from the records, and print where they are."""
    from benchmark import costs
    from benchmark import tables as tabling
    from benchmark.records import write_bytes
    from benchmark.render import to_format

    study = open_study(args.out)
    for name, content in to_format(tabling.frames(study), args.format).items():
        path = args.out / "tables" / name
        write_bytes(path, content)
        print(path)
    spent, path = costs.frame(study), args.out / "tables" / "costs.csv"
    write_bytes(path, tabling.to_csv(spent))
    print(path)
    Console().print(costs.render(spent))
    return DONE


def report(args: argparse.Namespace) -> int:
    """Write the HTML report, and figures if asked for, and print where they are."""
    from benchmark import report as reporting
    from benchmark import tables as tabling

    study = open_study(args.out)
    frames = tabling.frames(study)
    print(reporting.write(study, frames))
    if args.figures:
        files = reporting.figures(study, frames)
        print(f"{len(files)} figures in {study.out / 'report' / 'figures'}")
    return DONE


def sync(args: argparse.Namespace) -> int:
    """Rebuild the MLflow mirror from the records."""
    from benchmark import tracking
    from benchmark.study_run import write_outputs

    study = open_study(args.out)
    done = tracking.sync(study, write_outputs(study))
    print(f"{done.written} records written, {done.already} were there: {done.uri}")
    return DONE


def ui(args: argparse.Namespace) -> int:
    """Serve the MLflow mirror until interrupted."""
    from benchmark import tracking

    study = open_study(args.out)
    uri = tracking.uri_of(study)
    if uri.startswith("http"):  # a server has a page of its own
        print(f"this study is mirrored to a server: open {uri}")
        return DONE
    print(f"MLflow at http://{args.host}:{args.port} ({uri}); Ctrl-C ends it")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    return subprocess.run([*command, "--host", args.host, "--port", str(args.port)]).returncode


def check(args: argparse.Namespace) -> int:
    """Run the conformance checks on a method; print a line each."""
    path = Path(args.method)
    is_file = path.suffix == ".py" or os.sep in args.method
    registry = Registry((path,) if is_file else ())
    name = path.stem if is_file else args.method
    method = registry.load("method", name)

    import torch  # after the name is known to be good

    from protocols.conformance import CHECKS

    torch.set_num_threads(1)
    console, failed = Console(), 0
    for test in CHECKS:
        claim = (test.__doc__ or test.__name__).split("\n")[0]
        try:
            test(method)
        # Whatever a method under test raises is a finding, printed with its type.
        except Exception as error:
            failed += 1
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            console.print(f"[red]fails[/] {claim}", highlight=False)
            console.print(f"      {kind}{error}", highlight=False, markup=False)
        else:
            console.print(f"[green]keeps[/] {claim}", highlight=False)
    verdict = f"{len(CHECKS) - failed} of {len(CHECKS)} checks kept"
    console.print(f"{name}: {verdict}", highlight=False)
    return FAILED_JOBS if failed else DONE


def new_method(args: argparse.Namespace) -> int:
    """Write a working plugin and its test; refuse to overwrite anything."""
    if not _NAME.fullmatch(args.name):
        raise InvalidInputError(
            f"name {args.name!r}: expected lower-case letters, digits and underscores"
        )
    if args.name in Registry().names("method"):
        raise InvalidInputError(f"a method {args.name!r} exists already; choose another name")
    title = args.name.title().replace("_", "")
    targets = {
        "method.py.txt": args.folder / f"{args.name}.py",
        "test_method.py.txt": args.folder / f"test_{args.name}.py",
    }
    for target in targets.values():
        if target.exists():
            raise StoreError(f"{target} exists already; nothing was written")
    args.folder.mkdir(parents=True, exist_ok=True)
    for template, target in targets.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        target.write_text(text.replace("NAME", args.name).replace("Title", title), "utf-8")
        print(f"wrote {target}")
    plugin = targets["method.py.txt"]
    print(f"check it    python -m benchmark check {plugin}")
    print(
        f"compare it  python -m benchmark run --plugin {plugin} --methods {args.name},triplet"
        f" --out runs-{args.name}"
    )
    return DONE


def open_study(out: Path) -> Study:
    """Return the study in ``out``; raise StoreError if there is none."""
    study = studies.load(out)
    if study is None:
        raise StoreError(f"no study in {out}. Run one first, or name its folder with --out")
    return study
