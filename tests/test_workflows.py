"""The workflow that checks a pull request's rows: what it installs is what verify needs."""

import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "results.yml"
# Third parties that those in the list bring along.
_BROUGHT = {"annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"}
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
assert not {{"torch", "pandas", "optuna", "mlflow"}} & set(sys.modules)
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
