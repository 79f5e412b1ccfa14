"""Imports point one way: between rooms by the table below, inside a room without circles."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import TypeGuard

import pytest

from protocols.discovery import Registry
from tests.drawing import ROOT, arrows, between_rooms, circle, imported, longest, modules, room

# What each room of benchmark/ may import. ``protocols`` may be imported by all, and imports none.
ROOMS = {
    "study": set(),
    "intake": set(),
    # the folder of the code travels to other machines
    "engines": {"benchmark", "broken", "streams"},
    "training": {"study", "broken"},
    "mirror": {"study", "statistics"},
    "statistics": {"study"},
    "models": {"study", "training", "statistics", "tables"},
    "running": {"study", "engines", "training", "mirror", "streams"},
    "tables": {"study", "statistics", "benchmark"},
    "report": {"tables", "study", "statistics"},
    "submissions": {"study", "statistics", "tables"},
    "site": {"study", "statistics", "submissions", "report"},
    "commands": {
        "study",
        "intake",
        "engines",
        "training",
        "mirror",
        "statistics",
        "running",
        "models",
        "tables",
        "report",
        "site",
        "submissions",
        "benchmark",
        "exit_codes",
        "streams",
    },
    "api": {"cli", "commands", "exit_codes", "models", "report", "study", "tables"},
    "cli": {
        "exit_codes",
        "values",
        "model_options",
        "results_options",
        "upkeep_options",
        "parser",
        "benchmark",
    },
    "parser": {"examples"},
    "examples": set(),
    "model_options": set(),
    "results_options": {"values"},
    "upkeep_options": {"values"},
    "__main__": {"cli", "streams"},
    "exit_codes": set(),
    "values": set(),
    "streams": set(),
    "broken": set(),
    "benchmark": set(),
}
# Inside protocols/ each row may import the rows below it, never its own or one above.
PROTOCOL_ROWS = [
    {"errors", "names", "source_code", "reached", "two_pass", "generators"},
    {"blame", "ranges", "own_imports"},
    {"phases", "plugin_code", "settle", "sharpness", "splits", "packaged", "stages"},
    {"nearest_device", "partition", "ranking"},
    {"nearest"},
    {"first_hit"},
    {"space", "metrics", "batches", "dataset", "decoding", "protocol"},
    {"recipe", "verification"},
    {"recipe_search"},
    {"images", "manifest", "paper", "dense", "knobs"},
    {"searched", "terms", "resident"},
    {"method"},
    {"picking", "contract"},
    {"trunk", "discovery", "mixing", "pretend_device", "study_file"},
    {"layers", "teacher"},
    {"toy_task", "weights", "narrowing"},
    {
        "conformance_batches",
        "conformance_leaves",
        "conformance_mixing",
        "conformance_ranking",
        "conformance_side",
        "conformance_teacher",
    },
    {"toy_trunk"},
    {"conformance"},
    {"network", "conformance_trunk"},
    {"optimizer"},
    {"methods", "datasets", "trunks", "recipes", "specs"},
]
ROW = {name: number for number, names in enumerate(PROTOCOL_ROWS) for name in names}
MODULES = modules("benchmark", "protocols")
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
PACKAGES = [name for name, targets in ROOMS.items() if (ROOT / "benchmark" / name).is_dir()]


def wrong_rooms(sources: dict[str, str]) -> list[str]:
    """Return every arrow between rooms that the table does not allow."""
    return [
        f"{name} imports {other}"
        for name, others in between_rooms(arrows(sources)).items()
        for other in sorted(others)
        if name != "protocols" and other not in ROOMS.get(name, set()) | {"protocols"}
    ]


def circle_in(sources: dict[str, str], name: str) -> list[str]:
    """Return a circle among the modules of one room, [] without any."""
    inside = {module: text for module, text in sources.items() if room(module) == name}
    return circle(arrows(inside))


def wrong_rows(sources: dict[str, str]) -> list[str]:
    """Return every arrow inside protocols/ that does not point down."""
    found = []
    for module, targets in arrows(sources).items():
        own = module.split(".")[1:2]
        for target in targets if module.startswith("protocols.") else ():
            other = target.split(".")[1:2]
            same_file_group = own == other and target.startswith(f"protocols.{own[0]}")
            if other and not same_file_group and ROW[other[0]] >= ROW[own[0]]:
                found.append(f"{module} imports {target}")
    return found


def test_rooms_import_what_the_table_allows() -> None:
    assert {room(module) for module in SOURCES} == set(ROOMS) | {"protocols"}
    assert wrong_rooms(SOURCES) == []


@pytest.mark.parametrize("name", sorted({room(module) for module in SOURCES}))
def test_no_circle_inside_a_room(name: str) -> None:
    assert circle_in(SOURCES, name) == []


def test_no_circle_between_rooms() -> None:
    assert circle(between_rooms(arrows(SOURCES))) == []


def test_protocols_point_down() -> None:
    assert wrong_rows(SOURCES) == []


PLANTED = {
    "a room that looks up": (
        "benchmark.tables.frames",
        "from benchmark.report import page",
        lambda sources: wrong_rooms(sources),
    ),
    "an import inside a function": (
        "benchmark.study.folder",
        "def late():\n    from benchmark.training.fit import fit",
        lambda sources: wrong_rooms(sources),
    ),
    "a circle in report": (
        "benchmark.report.charts",
        "from benchmark.report import sections",
        lambda sources: circle_in(sources, "report"),
    ),
    "a circle in study": (
        "benchmark.study.records",
        "import benchmark.study.folder",
        lambda sources: circle_in(sources, "study"),
    ),
    "a row of protocols that looks up": (
        "protocols.metrics",
        "from protocols.network import Network",
        lambda sources: wrong_rows(sources),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults_are_seen(fault: str) -> None:
    module, line, found = PLANTED[fault]
    assert found(SOURCES) == []
    assert found({**SOURCES, module: f"{SOURCES[module]}\n{line}\n"})


def test_protocols_knows_no_runner_store_or_clock() -> None:
    forbidden = {"benchmark", "optuna", "mlflow", "pandas", "time", "datetime"}
    for module, text in SOURCES.items():
        if room(module) == "protocols":
            met = {name.split(".")[0] for name in imported(text)} & forbidden
            assert not met, f"{module}: {met}"


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("optuna", "benchmark.study.suggestions"),
        ("mlflow", "benchmark.mirror.client"),
        ("ray", "benchmark.engines.ray_cluster"),
    ],
)
def test_each_store_has_one_file(package: str, home: str) -> None:
    users = [
        module
        for module, text in SOURCES.items()
        if package in {name.split(".")[0] for name in imported(text)}
    ]
    assert users == [home]


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "study.records",
        "study.folder",
        "study.grid",
        "running.setup",
        "statistics.paired",
        "tables.frames",
        "tables.formats",
        "tables.diagnostics",
        "report.page",
        "submissions.schema",
        "submissions.read",
        "submissions.leaderboard",
        "submissions.verify",
        "submissions.submit",
        "commands.results",
        "commands.detect",
    ],
)
def test_a_laptop_without_torch_can_read_results(module: str) -> None:
    code = f"import sys, benchmark.{module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, f"benchmark.{module} imports torch"


@pytest.mark.parametrize("name", PACKAGES)
def test_each_room_says_what_it_is(name: str) -> None:
    text = ast.get_docstring(ast.parse(SOURCES[f"benchmark.{name}"])) or ""
    lines = [line for line in text.splitlines() if line]
    assert 3 <= len(lines) <= 6, f"benchmark/{name}: {len(lines)} lines of docstring, expected 3-6"


def test_modules_and_functions_stay_small() -> None:
    (lines, module), (body, function) = longest()
    assert lines <= 350, f"{module} has {lines} lines; split it"
    assert body <= 60, f"{function} has {body} lines; look for the seam"


# Where the runner may name a method, and which.
NAMED = {
    "benchmark.examples": {"ms"},  # what a user types
    "benchmark.running.setup": {"pretrained"},  # the one row of the paper that has no setting
}


def named_methods(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return which registered methods each module of the runner has as a text of its own."""
    methods = set(Registry().names("method"))
    texts = {
        module: {node.value for node in ast.walk(ast.parse(text)) if is_text(node)}
        for module, text in sources.items()
        if module.startswith("benchmark.")
    }
    return {module: found & methods for module, found in texts.items() if found & methods}


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_runner_names_no_method() -> None:
    assert named_methods(SOURCES) == NAMED


@pytest.mark.parametrize("name", Registry().names("method"))
def test_naming_a_method_would_be_seen(name: str) -> None:
    planted = {"benchmark.running.setup": f"if cell.method == {name!r}: pass"}
    assert named_methods(planted) == {"benchmark.running.setup": {name}}


def test_test_images_come_out_of_one_function() -> None:
    callers = {}
    for path in Path(ROOT / "benchmark").rglob("*.py"):
        text = path.read_text()
        if "open_test(" in text:
            callers[path.name] = text.count("open_test(")
    # tested.py: of a finished study, for models that are exported or measured
    expected = {"splits.py": 1, "job.py": 1, "join.py": 1, "tested.py": 1}
    assert callers == expected, "only final jobs, joins and finished models open the test split"
