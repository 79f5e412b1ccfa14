"""One screen that says what a study would meet here, to be pasted into a report of a fault.

Nothing in it names the user: the home folder is written as ``~``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from textwrap import wrap

from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from benchmark import __version__
from benchmark.commands.lines import counted
from benchmark.engines import limits
from benchmark.engines.holding import lock
from benchmark.engines.machine import MIN_FREE_BYTES, check_places, check_writable
from benchmark.engines.starting import check_address_space, check_processes
from benchmark.exit_codes import DONE, MACHINE
from benchmark.study import aliases, grid, machines
from benchmark.study.environment import commit, no_commit
from benchmark.study.folder import load_study
from protocols import manifest
from protocols.discovery import Registry
from protocols.errors import BenchmarkError, DataError
from protocols.names import one_line

PACKAGE = "dml-reality-bench"
OPTIONAL = ("timm", "onnx", "onnxruntime", "ray")  # asked for by extras
ROOM = 16  # columns of a name


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what is wrong with it, if something is."""

    name: str
    found: str
    fault: str = ""


def doctor(args: argparse.Namespace) -> int:
    """Print what a study would meet here; return 5 where one could not run."""
    console, faults = Console(), 0
    for finding in _findings(args.out, args.root):
        faults += bool(finding.fault)
        mark = "!" if finding.fault else " "
        for text in (finding.found, finding.fault):
            for part in wrap(
                _homeless(text),
                console.width - ROOM - 3,
                break_long_words=False,
                break_on_hyphens=False,
            ):
                console.print(Text(f"{mark} {finding.name:<{ROOM}}{part}"), soft_wrap=True)
                mark, finding = " ", replace(finding, name="")
    said = f"{faults} faults, each marked with !" if faults > 1 else "1 fault, marked with !"
    console.print(said if faults else "nothing found that would stop a study", soft_wrap=True)
    return MACHINE if faults else DONE


def _findings(out: Path, root: Path | None) -> Iterator[Finding]:
    yield _program()
    yield Finding("system", f"{platform.platform()}, Python {platform.python_version()}")
    yield from _packages()
    yield _torch()
    yield from _devices()
    yield from _place()
    yield from _folder(out)
    yield from _images(root)


def _program() -> Finding:
    known = commit()
    if known["commit"] is None:
        return Finding("dml-benchmark", f"{__version__}, no commit: {no_commit()}")
    edited = ", edited since" if known["dirty"] else ""
    return Finding("dml-benchmark", f"{__version__}, commit {str(known['commit'])[:12]}{edited}")


def _packages() -> Iterator[Finding]:
    """Yield the packages that are needed, and those that are there of the optional ones."""
    try:
        asked = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", "", "not installed: pip install -e . in the checkout")
        return
    needed = [Requirement(line) for line in asked if "extra ==" not in line]
    held, lacking = [], []
    for requirement in needed:
        version = _version(requirement.name)
        allowed = requirement.specifier
        if version is None or not allowed.contains(version, prereleases=True):
            lacking.append(f"{requirement} (found {version or 'none'})")
        held.append(f"{requirement.name}=={version}")
    missing = f"missing: {', '.join(lacking)}. Run pip install -e . in the checkout"
    yield Finding("packages", ", ".join(held), missing if lacking else "")
    more = [f"{name}=={_version(name) or 'none'}" for name in OPTIONAL]
    yield Finding("optional", ", ".join(more))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _torch() -> Finding:
    """Load torch, whose failure to load is the most common of all."""
    try:
        check_address_space()
        import torch  # here, because its import is what is looked at
    except (ImportError, OSError, BenchmarkError) as error:
        return Finding("torch", "does not load", one_line(str(error)))
    capability = torch.backends.cpu.get_cpu_capability()
    return Finding(
        "torch", f"{torch.__version__}, {capability}, {counted(torch.get_num_threads(), 'thread')}"
    )


def _devices() -> Iterator[Finding]:
    try:
        import torch  # as above
    except (ImportError, OSError):
        return
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPU"
        driver = ", though nvidia-smi is here" if shutil.which("nvidia-smi") else ""
        yield Finding("GPU", f"none that torch sees ({built}){driver}")
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(number)
        yield Finding(f"GPU {number}", f"{found.name}, {found.total_memory / 1e9:.0f} GB")


def _place() -> Iterator[Finding]:
    """Yield what this place allows: CPUs, memory, processes."""
    yield Finding("CPUs", f"{limits.cpus():g} of {os.cpu_count()}")
    allowed, fit = limits.memory_bytes(), limits.workers_that_fit()
    size = "unknown" if allowed is None else f"{allowed / 1e9:.1f} GB"
    yield Finding("memory", size, _fault(partial(limits.check_room, 1)))
    workers = max(1, min(int(limits.cpus()), fit or 1))
    yield Finding("workers", f"{workers} at once", _fault(partial(check_processes, workers)))


def _folder(out: Path) -> Iterator[Finding]:
    """Yield whether a study can lie in ``out``, and what lies there."""
    there = out if out.exists() else next(p for p in out.absolute().parents if p.exists())
    free = shutil.disk_usage(there).free
    small = f"less than {MIN_FREE_BYTES >> 20} MB: make room" if free < MIN_FREE_BYTES else ""
    yield Finding("disk", f"{free / 1e9:.1f} GB free at {there}", small)
    if not out.exists():
        yield Finding("study", f"none in {out}")
        return
    words: list[str] = []

    def usable() -> None:
        check_places(out)
        check_writable(out)
        with lock(out, words.append):
            pass

    fault = _fault(usable)
    yield Finding("folder", "; ".join(words) or f"{out} can be written and locked", fault)
    yield _study(out)


def _study(out: Path) -> Finding:
    try:
        study = load_study(out)
    except BenchmarkError as error:
        return Finding("study", "", one_line(str(error)))
    if study is None:
        return Finding("study", f"none in {out}")
    plans = grid.progress_of(study, list(study.all_cells))
    rules, left = study.protocol, sum(item.jobs_left for item in plans)
    failed = sum(item.state == "failed" for item in plans)
    kind = machines.device_kind(study) or "nothing yet"
    parts = [
        f"{rules.name} v{rules.version}",
        counted(len(plans), "cell"),
        f"{counted(left, 'job')} left",
        *([f"{counted(failed, 'cell')} failed"] if failed else []),
        *([f"{counted(len(study.doubts), 'record')} not believed"] if study.doubts else []),
        f"made on {kind}",
    ]
    return Finding("study", ", ".join(parts))


def _images(root: Path | None) -> Iterator[Finding]:
    """Yield what is prepared below a root."""
    if root is None:
        return
    held, registry = dict(aliases.known(root)), Registry()
    for name in registry.names("dataset"):
        whole = registry.usage("dataset", name) == name  # it takes no path, as folder:PATH does
        if whole and (manifest.place(root, name) / manifest.FILE).is_file():
            held.setdefault(name, name)
    for word, name in sorted(held.items()):
        try:
            header = manifest.read_header(manifest.place(root, name) / manifest.FILE, name)
        except DataError as error:
            yield Finding(word, "prepared once", one_line(str(error)))
            continue
        yield Finding(word, f"{header.images:,} images in {header.classes:,} classes")
    if not held:
        yield Finding("images", f"nothing prepared in {root}")


def _fault(check: Callable[[], None]) -> str:
    """Return what a check complains of, empty if of nothing."""
    try:
        check()
    except BenchmarkError as error:
        return one_line(str(error))
    return ""


def _homeless(text: str) -> str:
    home = os.path.expanduser("~")
    return text if home in ("/", "~") else text.replace(home, "~")
