"""Shared by all tests: one thread, the same hypothesis examples every time, the fault suite."""

import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # two busy cores fight over thread pools; sums depend on their number
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def heard():
    """Let studies hear signals that they inherit as ignored.

    ``nohup`` has them ignore SIGHUP, and a script that starts the tests in its background SIGINT.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if before[signal.SIGINT] == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_addoption(parser):
    parser.addoption(
        "--faults",
        action="store_true",
        help="the whole fault suite (half an hour), which writes tests/FAULTS.md",
    )


def pytest_collection_modifyitems(config, items):
    """Leave what is marked ``faults`` to ``nox -s faults``; begin with files that take minutes.

    Each core takes one file after the other; a long one begun last would keep the others waiting.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    if not config.getoption("--faults"):
        kept = [item for item in items if not item.get_closest_marker("faults")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
