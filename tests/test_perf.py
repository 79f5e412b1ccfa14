"""The measurement of speed: its arithmetic, and that both sides do the same work."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.training import splits
from protocols.images import crop, eval_boxes
from tests.perf import gpu, peer, pictures
from tests.perf.fit import Task, ratios
from tests.perf.rows import Row, in_turn, ratio
from tests.perf.training import Rate, network_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job on the emoji with batches of four."""
    made = pictures.job(tmp_path_factory.mktemp("perf"), "emoji")
    return replace(made, protocol=replace(made.protocol, batch_size=4, pair_images_per_class=2))


def perf(*words):
    command = [sys.executable, "-m", "tests.perf", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio([2.0, 9.0, 40.0], [1.0, 3.0, 40.0]) == 2.0  # not 9 / 3


def test_sides_take_turns_from_either_end():
    order = []
    sides = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    assert in_turn(sides, 3) == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert "".join(order) == "abbaab"


@pytest.mark.parametrize(
    ("value", "target", "passed"),
    [
        (0.9, ">= 0.9", True),
        (0.89, ">= 0.9", False),
        (2.0, "<= 2", True),
        (2.1, "<= 2", False),
        (None, "<= 2", None),
        (1.0, "", None),
    ],
)
def test_a_row_meets_its_target_or_says_nothing(value, target, passed):
    assert Row("x", value, target, 5, "").passed is passed


def test_fit_and_the_bare_loop_both_train(job):
    found = ratios(Task(job, steps=1, rounds=2))
    assert len(found) == 2
    assert min(found) > 0


def test_the_other_side_sees_the_same_network_and_images(job):
    """Its evaluation pictures and its two modules give this program's embeddings."""
    _, validation = splits.open_fold(job.source, job.protocol, 0)
    network = network_of(job, validation).eval()
    held = peer._pictures(job, validation, peer._evaluation(job))
    images = torch.stack([held[i][0] for i in range(6)])
    pixels, sizes = validation.store.batch(validation.index[:6])
    ours = crop(
        torch.from_numpy(pixels), eval_boxes(job.protocol.image, sizes), job.protocol.image.crop_px
    )
    with torch.no_grad():
        theirs = network.method.head(peer._Pooled(network.trunk)(images))
        torch.testing.assert_close(theirs, network(ours)["embedding"])
    assert [held[i][1] for i in range(6)] == validation.labels[:6].tolist()


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
def test_the_other_side_trains_and_validates(job):
    rate = peer.measure(pictures.paced(job, 2, 2), 0)
    assert rate.step_s > 0
    assert rate.validated_s > 0


def test_the_projected_hours_are_those_worked_by_hand(job, tmp_path):
    """2,800 trainings of 1,000 steps and 6 validations of 1,466 images."""
    by_hand = 2800 * (1000 * 0.03 + 6 * 1466 * 0.0009) / 4 / 3600
    assert gpu.column_hours(Rate(0.03, 0.0009), 4, gpu.SHORTEST) == pytest.approx(by_hand)
    hours, rounds, detail = gpu.column(pictures.paced(job, 4, 2), 1, tmp_path / "log")
    assert hours > 0
    assert rounds == 5
    assert "step 1000" in detail


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure the GPU for minutes")
def test_lines_are_written_and_a_wrong_name_is_said(tmp_path):
    path = tmp_path / "perf.json"
    done = perf("gpu", "--json", str(path))
    assert done.returncode == 0, done.stderr
    body = json.loads(path.read_text())
    assert {row["ratio"] for row in body["rows"]} == {None}
    assert body["machine"]["torch"]
    wrong = perf("speed")
    assert wrong.returncode == 2
    assert "no line 'speed'" in wrong.stderr
