"""Names in, exit code out: the only place that parses options and prints errors.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmark import __version__, model_options, results_options, upkeep_options
from benchmark.exit_codes import BAD_INPUT, DONE, INTERRUPTED, MACHINE
from benchmark.parser import SCRIPT, Parser, started_as
from benchmark.values import change, hours, names, points, positive, price, share
from protocols.errors import BenchmarkError, MachineError
from protocols.names import one_line

DESCRIPTION = (
    "Benchmark deep metric learning methods: same trunk, same budget, sealed test classes, "
    "intervals on every number."
)
KINDS = ("methods", "datasets", "trunks", "recipes", "protocols")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return execute(argv)
    except BenchmarkError as error:
        print(f"benchmark: {one_line(str(error))}", file=sys.stderr)
        for line in getattr(error, "lines", ()):  # what differs, one thing a line
            print(f"  {one_line(line)}", file=sys.stderr)
        return MACHINE if isinstance(error, MachineError) else BAD_INPUT
    except MemoryError:
        print(
            "benchmark: this process gets no more memory. What is recorded is safe: free some, or "
            "lift a limit (ulimit -v), and run the same command again",
            file=sys.stderr,
        )
        return BAD_INPUT
    except KeyboardInterrupt:
        print("benchmark: interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED


def execute(argv: Sequence[str] | None) -> int:
    """Run one command and return its exit code; what is wrong is raised.

    Raises:
        BenchmarkError: an option, a name or a file that does not do.
    """
    parser = make_parser()
    args = parser.options(argv)
    if not hasattr(args, "command"):
        parser.print_help()
        return DONE
    return carry_out(args)


def carry_out(args: argparse.Namespace) -> int:
    """Run the command of some options and return its exit code; what is wrong is raised."""
    module, function = args.command
    command: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    return command(args)


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog=started_as(), description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"{SCRIPT} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands, "run", "search, retrain, test and tabulate; run it again to continue")
    _add_run(commands, "plan", "the grid, each cell's state, jobs left and expected time")
    _add_list(commands)
    tables = _add(commands, "tables", "rebuild the tables from the records", "outputs", "tables")
    _add_out(tables)
    tables.add_argument(
        "--format",
        default="csv",
        choices=("csv", "md", "latex", "parquet", "every-eval-ever"),
        help="default: csv; latex comes with the papers to cite",
    )
    report = _add(commands, "report", "write the self-contained HTML report", "outputs", "report")
    _add_out(report)
    for command in (tables, report):
        _add_price(command)
    report.add_argument(
        "--figures", action="store_true", help="also each chart as PNG and SVG, a second each"
    )
    _add_data(commands)
    beside = _add(
        commands, "reproduce", "compare our numbers with the paper's", "reproduce", "reproduce"
    )
    _add_out(beside)
    beside.add_argument(
        "--table",
        default="reality-check",
        choices=("reality-check", "best-hyperparameters", "published"),
        help="default: reality-check",
    )
    beside.add_argument("--dataset", metavar="NAME", help="cub200, cars196 or sop")
    beside.add_argument("--methods", type=names, metavar="A,B", help="for --table published")
    results_options.add(commands, _add, _add_out, _add_price, _add_plugin)
    _add_mirror(commands)
    model_options.add(commands, _add, positive, _add_plugin)
    upkeep_options.add(commands, _add, _add_out)
    check = _add(commands, "check", "test a method or trunk against its contract", "check", "check")
    check.add_argument("name", metavar="NAME_OR_FILE", help="a method or trunk, or its file")
    _add_plugin(check)
    fresh = _add(commands, "new-study", "a study file with every key", "study_file", "new_study")
    fresh.add_argument("path", type=Path, metavar="FILE.toml", help="the file to write")
    fresh.add_argument("--protocol", default="quick", metavar="NAME", help="default: quick")
    _add_plugin(fresh)
    new = _add(commands, "new-method", "a working plugin and its test", "methods", "new_method")
    new.add_argument("name", help="short, lower case: becomes the file's and the row's name")
    new.add_argument("--folder", type=Path, default=Path(), help="where (default: here)")
    return parser


def _add_run(commands: argparse._SubParsersAction[Parser], name: str, summary: str) -> None:
    parser = _add(commands, name, summary, name, name)
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="STUDY.toml", help="a study file, see new-study"
    )
    parser.set_defaults(file_changes=())
    _add_grid(parser)
    _add_rules(parser)
    _add_machines(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="output folder (runs/, or runs-PROTOCOL/ where runs/ holds another protocol's study)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    if name == "run":
        parser.add_argument(
            "--max-hours", type=hours, metavar="H", help="stop before H hours, to go on later"
        )
        parser.add_argument(
            "--retry-failed",
            action="store_true",
            help="redo what the machine lost (oom, crash, timeout) and all that was made from it",
        )
    if name == "plan":
        parser.add_argument(
            "--detect",
            type=points,
            metavar="POINTS",
            help="seeds and hours that it takes to find a difference of POINTS",
        )


def _add_grid(parser: Parser) -> None:
    grid = parser.add_argument_group("what is compared")
    grid.add_argument("--protocol", default="quick", metavar="NAME", help="default: quick")
    for axis in ("methods", "datasets", "trunks", "recipes"):
        default = "the protocol's" if axis != "methods" else "the protocol's baseline"
        grid.add_argument(
            f"--{axis}",
            type=names,
            metavar="A,B",
            help=f"comma-separated; default: {default}",
        )
    grid.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file that holds a method, trunk, recipe or protocol",
    )
    grid.add_argument(
        "--weights",
        metavar="FILE|NAME|package:NAME|none",
        help="what the trunk starts from: a file, a name it knows, package:NAME, or none (random); "
        "needed where the protocol is for pretrained trunks",
    )
    grid.add_argument("--root", type=Path, metavar="DIR", help="where prepared datasets lie")


def _add_rules(parser: Parser) -> None:
    rules = parser.add_argument_group("budget and rules (changing one makes a derived protocol)")
    rules.add_argument("--seeds", type=positive, metavar="N", help="final runs of each cell")
    rules.add_argument("--trials", type=positive, metavar="N", help="trials of each search")
    rules.add_argument(
        "--params",
        choices=("search", "published"),
        help="published: the paper's settings, no search (default: search)",
    )
    rules.add_argument(
        "--bounds",
        choices=("wide", "narrow"),
        help="of searches; narrow: those with which the paper's searches began",
    )
    rules.add_argument(
        "--precision", choices=("fp32", "bf16"), help="bf16: networks in bfloat16, losses in fp32"
    )
    rules.add_argument(
        "--set",
        type=change,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other value of the protocol, recipe or a method, like image.crop_px=96, "
        "recipe.lr=1e-4 or method.ms.beta=40; new-study writes all keys",
    )
    rules.add_argument(
        "--match-cost",
        action="store_true",
        help="same seconds in place of same steps, where the protocol allows it",
    )
    rules.add_argument(
        "--oracle-gap",
        action="store_true",
        help="also score the test classes at every validation of final runs: by how much selecting "
        "on test would inflate a result",
    )
    rules.add_argument(
        "--search-repeats",
        type=positive,
        default=1,
        metavar="N",
        help="searches of each cell, each with seeds, a choice and runs of its own (default: 1)",
    )


def _add_machines(parser: Parser) -> None:
    machines = parser.add_argument_group("where it runs")
    machines.add_argument(
        "--keep",
        choices=("none", "best", "all"),
        help="weights of final runs that stay: of no seed, the best by validation, or all "
        "(default: as before in this folder, else best)",
    )
    machines.add_argument(
        "--jobs", type=positive, metavar="N", help="jobs at once (default: one per core or device)"
    )
    machines.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    machines.add_argument(
        "--deterministic",
        action="store_true",
        help="an operation whose result may differ between two runs fails its job (GPU)",
    )
    machines.add_argument(
        "--mps",
        action="store_true",
        help="jobs that share a GPU use it at the same time (NVIDIA's MPS); one that breaks it "
        "breaks the others, which then run again, each alone (default: off)",
    )
    machines.add_argument(
        "--engine", default="local", choices=("local", "ray"), help="default: local"
    )
    machines.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster (default: here)"
    )
    machines.add_argument(
        "--gpus-per-job", type=share, metavar="F", help="under Ray (default: measured)"
    )


def _add_data(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser("data", help="bring a dataset in, and check it")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    known = _add(verbs, "list", "datasets and whether they are here", "data", "list_data")
    bring = _add(verbs, "prepare", "unpack, verify, number", "data", "prepare")
    check = _add(verbs, "check", "list all that is wrong with a dataset", "data", "check")
    for command in (known, bring, check):
        command.add_argument("--root", type=Path, metavar="DIR", help="where prepared datasets lie")
    for command in (bring, check):
        command.add_argument("name", help="cub200, cars196, sop, inshop, folder:PATH, csv:FILE")
    bring.add_argument(
        "--archive", type=Path, metavar="PATH", help="the official archive, or its folder"
    )
    bring.add_argument(
        "--name", dest="word", metavar="WORD", help="a word for images of your own, like shoes"
    )
    bring.add_argument(
        "--class-level",
        type=positive,
        metavar="N",
        help="which folder on the way to an image is its class, from 1",
    )
    bring.add_argument(
        "--labels", choices=("text", "number"), help="are 1 and 001 two classes or one?"
    )
    bring.add_argument("--download", action="store_true", help="fetch it if an address is known")


def _add_mirror(commands: argparse._SubParsersAction[Parser]) -> None:
    sync = _add(commands, "sync", "rebuild the MLflow mirror from the records", "outputs", "sync")
    _add_out(sync)
    ui = _add(commands, "ui", "open the MLflow mirror in a browser", "outputs", "ui")
    _add_out(ui)
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    ui.add_argument("--port", type=int, default=5000, help="default: 5000")
    ui.add_argument(
        "--allowed-hosts",
        type=names,
        metavar="A,B",
        help="host names under which other machines may open it",
    )


def _add_list(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = _add(commands, "list", "known names with one line each", "methods", "list_names")
    parser.add_argument("kind", nargs="?", choices=KINDS, help="default: all kinds")
    _add_plugin(parser)


def _add(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    summary: str,
    module: str,
    function: str,
) -> Parser:
    described = f"{summary[:1].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=described)
    parser.set_defaults(command=(f"benchmark.commands.{module}", function), parser=parser)
    return parser


def _add_plugin(parser: Parser) -> None:
    parser.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a plugin's file, where one is used",
    )


def _add_price(parser: Parser) -> None:
    parser.add_argument(
        "--price-per-hour",
        type=price,
        metavar="PRICE",
        help='of a machine\'s hour, like "0.80 EUR"',
    )


def _add_out(parser: Parser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="output folder (runs/)"
    )
