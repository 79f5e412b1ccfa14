"""Imports point one way. Each row may import the rows below it, never its own or above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors"},
    {"nearest"},
    {"space", "metrics", "splits", "batches", "dataset", "decoding", "protocol"},
    {"recipe"},
    {"images", "manifest", "paper"},
    {"method"},
    {"trunk", "discovery", "optimizer", "pretend_device"},
    {"toy_task", "weights"},
    {"conformance"},
    {"network"},
    {"methods", "datasets", "trunks", "recipes", "specs"},
    {"seeds", "environment", "store", "records", "averaging", "unpack", "history"},
    {"study", "data", "selection", "oracle", "machine", "download", "sources"},
    {"datacheck", "submission"},
    {"statistics", "bootstrap", "classes"},
    {"plan", "prepare", "evaluate", "search", "mirror", "across", "power", "variance", "rowread"},
    {"train", "join", "progress", "tracking", "cells", "leaderboard", "diagnostics"},
    {"job", "comparisons", "rowcheck"},
    {"tables"},
    {"headlines", "costs"},
    {"render"},
    {"report"},
    {"engine", "calibrate"},
    {"ray_engine"},
    {"schedule", "request"},
    {"run"},
    {"cli"},
    {"detect"},
    {"commands", "data_commands", "study_run", "reproduce", "submit", "verify", "__main__"},
]
ROW = {name: number for number, names in enumerate(LAYERS) for name in names}
# The one upward glance: two commands share what the main job writes at its end.
SAME_ROW = {("commands", "study_run")}
MODULES = [
    p for package in ("protocols", "benchmark") for p in sorted((ROOT / package).rglob("*.py"))
]


def row_name(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def name_of(path: Path) -> str:
    return row_name(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = name_of(path)
    for module in imported(path):
        if not module.startswith(("protocols.", "benchmark.")):
            continue
        other = row_name(module)
        if own in ("__init__",) or other == "__init__":
            continue
        if own == other and path.parent.name == own:
            package = ".".join(path.relative_to(ROOT).parts[:2])
            assert module.startswith(package), f"{path}: imports {module}, a sibling"
            continue
        allowed = ROW[other] < ROW[own] or (own, other) in SAME_ROW
        assert allowed, f"{path}: {own} (row {ROW[own]}) imports {other} (row {ROW[other]})"


def test_protocols_knows_no_runner_store_or_clock() -> None:
    forbidden = ("benchmark", "optuna", "mlflow", "pandas", "time", "datetime")
    for path in MODULES:
        if "protocols" in path.relative_to(ROOT).parts:
            tops = {module.split(".")[0] for module in imported(path)}
            assert not tops & set(forbidden), f"{path}: {tops & set(forbidden)}"


@pytest.mark.parametrize(
    ("package", "home"),
    [("optuna", "search.py"), ("mlflow", "tracking.py"), ("ray", "ray_engine.py")],
)
def test_each_store_has_one_file(package: str, home: str) -> None:
    users = [p.name for p in MODULES if package in {m.split(".")[0] for m in imported(p)}]
    assert users == [home]


@pytest.mark.parametrize(
    "module",
    [
        *("records", "study", "statistics", "tables", "report", "cli", "plan", "request"),
        *("submission", "rowread", "leaderboard", "verify", "submit", "detect", "diagnostics"),
    ],
)
def test_a_laptop_without_torch_can_read_results(module: str) -> None:
    code = f"import sys, benchmark.{module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, f"benchmark.{module} imports torch"


@pytest.mark.parametrize("name", ["triplet", "group", "untrained"])
def test_the_runner_names_no_method(name: str) -> None:
    for path in (ROOT / "benchmark").rglob("*.py"):
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert name not in strings, f"{path} names the method {name!r}"


def test_test_images_come_out_of_one_function() -> None:
    callers = {}
    for path in (ROOT / "benchmark").rglob("*.py"):
        text = path.read_text()
        if "open_test(" in text:
            callers[path.name] = text.count("open_test(")
    expected = {"data.py": 1, "job.py": 1, "join.py": 1}
    assert callers == expected, "only final jobs and joins open the test split"
