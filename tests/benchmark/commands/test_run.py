"""How the main job ends: what follows a study that is done, and one that is stopped."""

import pytest

from benchmark.cli import main
from benchmark.commands import run as module
from benchmark.exit_codes import BAD_INPUT, DONE, INTERRUPTED
from protocols.errors import StoreError


class Told:
    """Stands for the mirror and notes how it is ended."""

    def __init__(self):
        self.ends = []

    def stop(self, timeout_s):
        self.ends.append(("stop", timeout_s <= 10))

    def finish(self, artifacts, timeout_s):
        self.ends.append(("finish", bool(artifacts)))


@pytest.mark.parametrize(
    ("raised", "code", "ends"),
    [
        (KeyboardInterrupt(), INTERRUPTED, [("stop", True)]),
        (StoreError("no room"), BAD_INPUT, [("stop", True)]),
        (None, DONE, [("finish", True)]),
    ],
    ids=["Ctrl-C", "a full disk", "done"],
)
def test_the_mirror_is_ended_however_a_study_ends(raised, code, ends, tmp_path, monkeypatch):
    told = Told()

    def work(*args):
        if raised is not None:
            raise raised

    monkeypatch.setattr(module, "open_tracker", lambda *args: told)
    monkeypatch.setattr(module, "work", work)
    monkeypatch.setattr(module, "write_outputs", lambda study: [tmp_path / "summary.csv"])
    assert main(["run", "--protocol", "toy", "--out", str(tmp_path / "runs")]) == code
    assert told.ends == ends
