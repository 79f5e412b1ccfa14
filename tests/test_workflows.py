"""The workflows: what they install is what is needed, what they run is what a change must pass."""

import configparser
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "results.yml"
# Third parties that those in the list bring along.
# What those packages need themselves.
_BROUGHT = {
    *("annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"),  # pydantic
    *("alembic", "colorlog", "greenlet", "mako", "markupsafe", "packaging", "sqlalchemy"),  # Optuna
    *("tqdm", "yaml"),
}
_BLOCKED = """\
import importlib.abc, sys, sysconfig
from importlib.machinery import PathFinder

allowed, results = set({allowed!r}), sys.argv[1]
third_party = sysconfig.get_paths()["purelib"]


class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and PathFinder.find_spec(top, [third_party]):
            raise ModuleNotFoundError(f"{{top}} is not installed", name=top)


sys.meta_path.insert(0, Only())
from benchmark.cli import main

code = main(["verify", results])
assert not {{"torch", "pandas", "mlflow"}} & set(sys.modules)
sys.exit(code)
"""


def steps():
    return yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["verify"]["steps"]


def installed():
    (command,) = [s["run"] for s in steps() if "pip install" in s.get("run", "")]
    return set(command.split("pip install ")[1].split())


def verify(allowed, results=ROOT / "results"):
    code = _BLOCKED.format(allowed=sorted(allowed))
    words = [sys.executable, "-c", code, str(results)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def test_verify_runs_with_what_the_workflow_installs_and_no_torch():
    started = time.perf_counter()
    done = verify(installed() | _BROUGHT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.perf_counter() - started < 60
    assert "0 problems" in done.stderr


def test_nothing_is_installed_that_verify_does_not_need():
    for name in installed():
        done = verify((installed() | _BROUGHT) - {name})
        assert f"{name} is not installed" in done.stderr


def test_it_checks_rows_against_the_branch_they_are_meant_for():
    content = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert content[True]["pull_request"]["paths"][0] == "results/**"  # YAML reads "on" as true
    assert content["permissions"] == {"contents": "read"}
    (last,) = [s for s in steps() if "verify" in s.get("run", "")]
    assert last["run"] == 'python -m benchmark verify results --since "origin/$BASE"'
    assert last["env"] == {"BASE": "${{ github.base_ref }}"}, "no text of a stranger in a shell"
    (checkout,) = [s for s in steps() if "checkout" in s.get("uses", "")]
    assert checkout["with"]["fetch-depth"] == 0, "rows name commits of the whole history"


def workflow(name):
    return yaml.safe_load((WORKFLOW.parent / name).read_text("utf-8"))


def test_every_change_has_to_pass_the_gate():
    """All of ``.ci/run``, whatever the change touches; the README's test says what that runs."""
    content = workflow("tests.yml")
    assert content[True] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert content["permissions"] == {"contents": "read"}
    (job,) = content["jobs"].values()
    assert "if" not in job
    assert [s["run"] for s in job["steps"] if "run" in s] == [".ci/run"]
    assert not any("if" in s or s.get("continue-on-error") for s in job["steps"])
    of = {s["uses"].partition("@")[0]: s["with"] for s in job["steps"] if "uses" in s}
    assert of["actions/checkout"] == {"fetch-depth": 0, "persist-credentials": False}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    least = config["options"]["python_requires"].removeprefix(">=").strip()
    assert of["actions/setup-python"]["python-version"] == least


def test_workflows_use_one_version_of_an_action():
    names = sorted(path.name for path in WORKFLOW.parent.iterdir())
    assert names == ["results.yml", "site.yml", "tests.yml"]
    jobs = [job for name in names for job in workflow(name)["jobs"].values()]
    used = {step["uses"] for job in jobs for step in job["steps"] if "uses" in step}
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", use) for use in used), used
    assert len({use.partition("@")[0] for use in used}) == len(used), used


def test_templates_name_commands_that_exist():
    from benchmark.cli import make_parser

    texts = [p.read_text("utf-8") for p in (ROOT / ".github").rglob("*.md")]
    assert len(texts) == 4
    found = {c for text in texts for c in re.findall(r"python -m benchmark ([a-z][a-z-]+)", text)}
    known = next(a.choices for a in make_parser()._actions if a.choices and "verify" in a.choices)
    assert found
    assert found <= set(known)


def test_the_site_is_published_when_whatever_makes_it_changes():
    """Every package that the command imports, by the modules that it left loaded."""
    content = yaml.safe_load((WORKFLOW.parent / "site.yml").read_text("utf-8"))
    paths = content[True]["push"]["paths"]
    code = (
        "import sys, benchmark.commands.site, pathlib as p\n"
        "for m in list(sys.modules.values()):\n"
        "    f = getattr(m, '__file__', None)\n"
        "    if f and m.__name__.split('.')[0] in ('benchmark', 'protocols'): print(p.Path(f))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    files = [Path(line).relative_to(ROOT).as_posix() for line in done.stdout.splitlines()]
    assert len(files) > 50
    folders = {f"{name.rpartition('/')[0]}/" for name in files}
    whole = tuple(path.removesuffix("**") for path in paths if path.endswith("**"))
    flat = {path.removesuffix("*.py") for path in paths if path.endswith("*.py")}
    assert not [f for f in folders if not f.startswith(whole) and f not in flat]
