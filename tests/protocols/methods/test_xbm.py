"""XBM: both parts of the loss, the memory, and KoLeo."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.method import Batch
from protocols.methods.xbm import CrossBatchMemory, spread
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    gradient,
    loop_distances,
    mean,
    random_batch,
)


def at(degrees):
    turned = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turned.cos(), turned.sin()], 1)


def holding(rows, classes, share=1.0, **settings):
    """Return the method with a memory that holds ``rows`` and nothing else."""
    spec = replace(SPEC, embedding_size=rows.shape[1], batch_size=2, labels=np.zeros(9, int))
    built = CrossBatchMemory(spec, memory=share, **settings).double()
    built.remember(rows, classes)
    return built


def loop(z, labels, rows, classes, margin, own=False):
    """Return P: sums over rows, mean over anchors; ``own`` leaves an anchor's own row out."""
    s, y, theirs = cosines(z, rows), labels.tolist(), classes.tolist()
    return mean(
        math.fsum(
            1 - v if y[i] == theirs[j] else max(0.0, v - margin)
            for j, v in enumerate(row)
            if not (own and i == j)
        )
        for i, row in enumerate(s)
    )


@pytest.mark.parametrize(("margin", "expected"), [(0.5, 0.93301270), (0.2, 1.08301270)])
def test_golden_value_of_the_batch(margin, expected):
    method = build(CrossBatchMemory, margin=margin).method
    got = method.against_batch(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(expected, rel=0, abs=5e-9)


def test_golden_value_against_a_memory():
    method = holding(at([90.0, 30.0]), torch.tensor([0, 1]))
    got = method.against_memory(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(1.18301270, rel=0, abs=5e-9)


def test_the_released_form_has_another_value_and_the_same_gradient():
    """It adds s, not s - margin, for every negative above the margin."""

    def released(z, labels):
        s, same = normalize(z) @ normalize(z).T, labels[:, None] == labels
        apart = ~torch.eye(len(z), dtype=torch.bool)
        return ((1 - s) * (same & apart) + s * (~same & (s > 0.5))).sum() / len(z)

    method = build(CrossBatchMemory).method
    got = released(FIXTURE, FIXTURE_LABELS).item()
    assert got == pytest.approx(1.18301270, rel=0, abs=5e-9)
    ours = gradient(method.against_batch, FIXTURE, FIXTURE_LABELS)
    torch.testing.assert_close(gradient(released, FIXTURE, FIXTURE_LABELS), ours)


def test_the_memory_is_first_in_first_out():
    spec = replace(SPEC, embedding_size=1, batch_size=2, labels=np.zeros(5, int))
    method = CrossBatchMemory(spec)
    for batch in ("ab", "cd", "ef"):
        numbers = torch.tensor([ord(letter) for letter in batch])
        method.remember(torch.ones(2, 1), numbers)
    assert "".join(map(chr, method.classes.tolist())) == "fbcde"
    assert method.pointer.item() == 1


@pytest.mark.parametrize("share", [0.02, 0.4, 1.0])
def test_the_memory_is_that_of_a_slow_loop(share):
    """Also where a batch is as large as the memory, or larger."""
    rng = np.random.default_rng(3)
    spec = replace(SPEC, embedding_size=3, batch_size=4, labels=np.zeros(20, int))
    method = CrossBatchMemory(spec, memory=share).double()
    size, held = len(method.rows), []
    assert size == max(4, round(share * 20))
    for step in range(12):
        z, labels = random_batch(rng, size=3)
        expected = loop(z, labels, *together(held), 0.5) if held else 0.0
        got = method.against_memory(z, labels).item()
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12), step
        method.remember(z, labels)
        held = [*held, *zip(z, labels, strict=True)][-size:]


def together(held):
    rows, classes = zip(*held, strict=True)
    return torch.stack(rows), torch.stack(classes)


def test_the_batch_part_equals_loops():
    rng = np.random.default_rng(0)
    for _ in range(60):
        margin = float(rng.uniform(0, 1))
        z, labels = random_batch(rng)
        got = build(CrossBatchMemory, margin=margin).method.against_batch(z, labels).item()
        expected = loop(z, labels, z, labels, margin, own=True)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_batch_meets_the_memory_from_the_start_on_and_never_itself():
    method = CrossBatchMemory(SPEC, start=0.03, weight=0.5)  # of 100 steps
    rng = np.random.default_rng(0)
    batches = [random_batch(rng, SPEC.classes, SPEC.embedding_size) for _ in range(6)]
    got = []
    for step, (z, labels) in enumerate(batches):
        batch = Batch(labels, torch.arange(len(z)), None, step, 0)
        got.append(method.losses({"embedding": z.requires_grad_()}, batch)["memory"])
    assert [v.item() for v in got[:4]] == [0.0] * 4, "the first batch enters at step 3"
    for step in (4, 5):
        held = [pair for z, y in batches[3:step] for pair in zip(z.detach(), y, strict=True)]
        z, labels = batches[step]
        expected = 0.5 * loop(z.detach(), labels, *together(held), 0.5)
        assert got[step].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    sum(got).backward()
    assert batches[3][0].grad.count_nonzero() == 0, "what is remembered is detached"
    assert batches[5][0].grad.abs().sum() > 0
    (phase,) = CrossBatchMemory.phases(method.settings, 100, 10)
    assert (phase.name, phase.begins) == ("memory", 3)


def test_koleo_on_the_fixture_and_by_loops():
    assert spread(FIXTURE, FIXTURE_LABELS).item() == pytest.approx(0.24259608, rel=0, abs=5e-9)
    rng = np.random.default_rng(0)
    for _ in range(30):
        z, labels = random_batch(rng)
        d = loop_distances(normalize(z))
        nearest = [min(v for j, v in enumerate(row) if j != i) for i, row in enumerate(d)]
        expected = -mean(math.log(v) for v in nearest)
        assert spread(z, labels).item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_koleo_is_an_option_that_no_search_varies():
    assert [t.name for t in CrossBatchMemory(SPEC).terms] == ["loss", "memory"]
    terms = CrossBatchMemory(SPEC, koleo=0.7).terms
    assert [(t.name, t.weight) for t in terms][2:] == [("koleo", 0.7)]
    assert CrossBatchMemory.space("emoji")["koleo"].options == (0.0,)
    twice = FIXTURE[[0, 0, 1, 2]]  # an image drawn twice has a neighbour at no distance
    assert gradient(spread, twice, FIXTURE_LABELS).isfinite().all()
