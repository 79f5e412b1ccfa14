"""A training that is interrupted and goes on gives the bits of one that never stopped."""

import functools
import hashlib
import io
import math
import os
import random
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.study import records
from benchmark.study.folder import CellKey
from benchmark.training import checkpoint, fit, job, keeper, splits
from benchmark.training.attributes import plain, unplain
from benchmark.training.device_steps import DeviceSteps
from benchmark.training.job import Job, execute
from benchmark.training.keeper import Clock, Keeper
from benchmark.training.steps import HostSteps
from protocols import discovery
from protocols.discovery import Registry, load
from protocols.errors import StoreError
from protocols.protocol import ImagePipeline, Pace
from tests.emulator import Emulator, as_on_a_device

TOY = load("protocol", "toy")
# Validations in the middle of an epoch too; a budget that ends in an averaging recipe's phase.
PACE = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=99)
PROTOCOL = replace(TOY, pace=PACE, eval_batch=256)
LARGER = ImagePipeline(32, 32, area=(0.5, 1.0), flip=0.5)  # leaves a feature map
TRAINED = [n for n in Registry().names("method") if load("method", n).trains]
# Its plan is under way at every step but the last epoch's.
SETTINGS = {"divide_conquer": {"learners": 2, "finetune": 0.95}}


ENTRY_POINTS = functools.cache(discovery.entry_points)


class Killed(BaseException):
    """What a test stops a training with."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    cache = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, cache)


@pytest.fixture(autouse=True)
def _only_when_told(monkeypatch):
    """Write no checkpoint by the clock; and look for installed plugins once, not at every job."""
    monkeypatch.setattr(keeper, "EVERY_S", math.inf)
    monkeypatch.setattr(keeper, "COST", 0)
    monkeypatch.setattr(discovery, "entry_points", ENTRY_POINTS)


def make(source, method="ms", recipe="adam", protocol=PROTOCOL, plugins=(), stage="final"):
    cell = CellKey("id", "toy", "tiny", recipe, method, method)
    settings = SETTINGS.get(method, {})
    if Registry(plugins).load("method", method).wants.map:
        protocol = replace(protocol, image=LARGER)
    loaded = load("recipe", recipe)
    return Job(cell, protocol, loaded, stage, 0, 0, settings, source, "cpu", plugins)


def killed_at(monkeypatch, made, steps, first=None, kind=HostSteps):
    """Start ``made``, stop it before each of ``steps`` in turn, and return the words of each.

    A checkpoint is written before that very step, or from step ``first`` on.
    """
    take, found = kind.take, []
    for limit in steps:

        def until(self, draw, step, factor, limit=limit):
            if step == limit:
                raise Killed
            if step + 1 >= (limit if first is None else first):
                monkeypatch.setattr(keeper, "EVERY_S", 0.0)
            take(self, draw, step, factor)

        clock = Clock("cpu")
        kept = Keeper(made.partial, made.id, "cpu", clock)
        monkeypatch.setattr(kind, "take", until)
        with pytest.raises(Killed):
            job._go_on(made, kept, clock)
        monkeypatch.setattr(kind, "take", take)
        monkeypatch.setattr(keeper, "EVERY_S", math.inf)
        found.append(kept.words)
    return found


def same(outcome, whole):
    """Everything but what a clock says; the embeddings of the kept weights among it."""
    assert whole.record.status == "done", whole.record.detail
    assert replace(outcome.record, measured={}) == replace(whole.record, measured={})
    assert outcome.vectors == whole.vectors
    return True


def resumed(monkeypatch, made, tmp_path, steps=(7,), first=None, kind=HostSteps):
    """Return the outcome of ``made`` after it was stopped before each of ``steps``."""
    made = replace(made, partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, steps, first, kind)
    return execute(made)


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_goes_on_bit_for_bit(source, method, monkeypatch, tmp_path):
    made = make(source, method)
    outcome = resumed(monkeypatch, made, tmp_path, first=4)
    assert same(outcome, execute(made))
    # In the middle of an epoch, but not of a plan.
    assert outcome.record.measured["resumed"] == [4 if method == "divide_conquer" else 7]
    assert "checkpoint" not in outcome.record.measured


@pytest.mark.parametrize("recipe", [n for n in Registry().names("recipe") if n != "adam"])
def test_every_recipe_goes_on_bit_for_bit(source, recipe, monkeypatch, tmp_path):
    # The warm-up of some of them lasts a hundred steps.
    loaded = load("recipe", recipe)
    slow = loaded.warmup_steps or loaded.head_first_steps
    pace = Pace(104 if slow else 32, steps_per_epoch=4, validate_every=16, patience=99)
    made = make(source, recipe=recipe, protocol=replace(PROTOCOL, pace=pace), stage="search")
    stops = (pace.max_steps // 3, pace.max_steps - 2)  # the last one while weights are averaged
    first = None
    if loaded.gradients == 2:  # it takes odd steps only
        stops, first = (pace.max_steps - 1,), pace.max_steps - 2
    outcome = resumed(monkeypatch, made, tmp_path, stops, first)
    assert same(outcome, execute(made))
    assert outcome.record.measured["resumed"] == list(stops)
    if made.recipe.averaging:
        assert outcome.record.history[-1]["averaged"] > 1


@pytest.mark.parametrize(
    ("method", "how"), [("bfe", "graph"), ("group", "graph"), ("ms", "graph"), ("ms", "trunk: it ")]
)
def test_recorded_steps_go_on_bit_for_bit(source, method, how, monkeypatch, tmp_path):
    """As on a GPU: recordings are made and proven anew, from moments and sums that were kept."""
    as_on_a_device(monkeypatch)
    losses = load("method", method).losses

    def waits(self, views, batch):
        float(views["embedding"].detach().sum())
        return losses(self, views, batch)

    if how != "graph":
        monkeypatch.setattr(load("method", method), "losses", waits)

    def recorded(training):
        recorder = Emulator()
        steps = DeviceSteps(training, recorder)
        recorder.written = steps._written
        return steps

    monkeypatch.setattr(fit, "make_steps", recorded)
    pace = Pace(max_steps=26, steps_per_epoch=4, validate_every=13, patience=99)
    made = make(source, method, protocol=replace(PROTOCOL, pace=pace), stage="search")
    outcome = resumed(monkeypatch, made, tmp_path, (10,), kind=DeviceSteps)
    assert same(outcome, execute(made))
    assert outcome.record.measured["resumed"] == [10]
    assert outcome.record.measured["step"].startswith(how)


def test_stopped_again_and_again_it_is_the_same(source, monkeypatch, tmp_path):
    made = make(source, "margin_class")
    steps = tuple(range(1, PACE.max_steps, 2))
    outcome = resumed(monkeypatch, made, tmp_path, steps)
    assert same(outcome, execute(made))
    assert outcome.record.measured["resumed"] == list(steps)


def test_what_was_watched_is_kept_too(source, monkeypatch, tmp_path):
    made = make(source, protocol=PROTOCOL.derive(oracle_gap=True))
    outcome = resumed(monkeypatch, made, tmp_path)
    assert same(outcome, execute(made))
    assert [row["step"] for row in outcome.record.oracle] == [0, 6, 12]


def test_patience_goes_on(source, monkeypatch, tmp_path):
    """A training that stops early does so at the same step."""
    pace = Pace(max_steps=400, steps_per_epoch=4, validate_every=4, patience=2)
    made = make(source, "triplet", protocol=replace(PROTOCOL, pace=pace), stage="search")
    whole = execute(made)
    assert whole.record.steps < 400
    last = whole.record.steps - 1
    assert same(resumed(monkeypatch, made, tmp_path, (5, last)), whole)


def test_the_seconds_of_all_parts_count(source, monkeypatch, tmp_path):
    made = replace(make(source), partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))
    kept = checkpoint.read(made.partial, checkpoint.identity(made.id, "cpu"))
    assert 0 < kept["spent"]["train_s"] <= kept["spent"]["seconds"]
    earlier = {"seconds": 1000.0, "cpu_s": 500.0, "train_s": 800.0}
    checkpoint.write(made.partial, checkpoint.identity(made.id, "cpu"), {**kept, "spent": earlier})
    measured = execute(made).record.measured
    for name, seconds in earlier.items():
        assert seconds < measured[name] < seconds + 100


def test_a_training_under_a_minute_writes_nothing(source, monkeypatch, tmp_path):
    monkeypatch.setattr(keeper, "EVERY_S", 60.0)
    made = replace(make(source), partial=tmp_path / "partial.pt")
    assert execute(made).record.status == "done"
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_costs_a_fiftieth_of_the_time_at_most(monkeypatch, tmp_path):
    monkeypatch.setattr(keeper, "EVERY_S", 60.0)
    monkeypatch.setattr(keeper, "COST", 50)
    kept = Keeper(tmp_path / "partial.pt", "id", "cpu", Clock("cpu"))
    assert kept._wait() == 60.0
    kept._took = 10.0
    assert kept._wait() == 500.0


def test_without_its_folder_on_this_machine_nothing_is_kept(source, tmp_path):
    made = replace(make(source), partial=tmp_path / "elsewhere" / "partial.pt")
    assert execute(made).record.status == "done"
    assert not (tmp_path / "elsewhere").exists()


# What must not be gone on from.


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


def rewritten(change):
    """Return what writes a checkpoint with ``change`` made to its state, checksum and all."""

    def damage(path):
        made_by = torch.load(_payload(path), weights_only=True)["identity"]
        state = checkpoint.read(path, made_by)
        change(state)
        checkpoint.write(path, made_by, state)

    return damage


def _payload(path):
    return io.BytesIO(path.read_bytes()[checkpoint._HEADER :])


def another_weight(state):
    del state["course"]["weights"]["method.head.weight"]


def another_stream(state):
    state["course"]["drawn"] = (3, 0)


def another_attribute(state):
    state["course"]["digests"]["method.normalize_embeddings"] = "0" * 32


def nothing(state):
    state.clear()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "it is damaged"),
        (cut, "it is damaged"),
        (empty, "it is damaged"),
        (folder, "a folder in its place"),
        (rewritten(another_weight), "Missing key"),
        (rewritten(another_stream), "the sampler does not draw the batches that it drew"),
        (rewritten(another_attribute), "method.normalize_embeddings is not what it was"),
        (rewritten(nothing), "KeyError"),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_said(
    source, damage, words, monkeypatch, tmp_path, capsys
):
    made = replace(make(source), partial=tmp_path / "partial.pt")
    whole = execute(make(source))
    killed_at(monkeypatch, made, (7,))
    damage(made.partial)
    outcome = execute(made)
    assert same(outcome, whole)
    said = outcome.record.measured["checkpoint"]
    assert said.startswith("its checkpoint is set aside, trained anew: ")
    assert words in said
    assert said in capsys.readouterr().out
    assert "resumed" not in outcome.record.measured
    assert [path.name for path in tmp_path.iterdir()] == ["partial.pt.aside"]


def refuse(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_what_fails_after_a_checkpoint_was_set_aside_is_told_as_it_is(
    source, monkeypatch, tmp_path
):
    made = replace(make(source, stage="search"), partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))
    rewritten(another_attribute)(made.partial)
    monkeypatch.setattr(HostSteps, "take", refuse)
    outcome = execute(made)
    assert (outcome.record.reason, outcome.spent) == ("oom", "crowded")
    assert "CUDA out of memory" in outcome.record.detail


def test_a_checkpoint_stays_where_a_device_fails_while_it_is_restored(
    source, monkeypatch, tmp_path
):
    made = replace(make(source, stage="search"), partial=tmp_path / "partial.pt")
    whole = execute(make(source, stage="search"))
    killed_at(monkeypatch, made, (7,))
    with monkeypatch.context() as patch:
        patch.setattr(HostSteps, "restore", refuse)
        outcome = execute(made)
    assert (outcome.record.reason, outcome.spent) == ("oom", "crowded")
    assert [path.name for path in tmp_path.iterdir()] == ["partial.pt"]
    again = execute(made)
    assert same(again, whole)
    assert again.record.measured["resumed"] == [7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: replace(made, number=1), "it was made with job "),
        ("version", "it was made with torch "),
        ("code", "it was made with training code "),
        ("threads", "it was made with cpu_capability "),
    ],
)
def test_one_made_by_something_else_is_not_used(source, change, words, monkeypatch, tmp_path):
    made = replace(make(source, stage="search"), partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))
    if change == "version":
        versions = {**checkpoint.environment.versions(), "torch": "0.1"}
        monkeypatch.setattr(checkpoint.environment, "versions", lambda: versions)
    elif change == "code":
        monkeypatch.setattr(checkpoint, "_code", lambda: "0" * 12)
    elif change == "threads":
        here = checkpoint.device.described
        other = {"cpu_capability": "none"}
        monkeypatch.setattr(checkpoint.device, "described", lambda d: {**here(d), **other})
    else:
        made = change(made)
    outcome = execute(made)
    assert words in outcome.record.measured["checkpoint"]
    assert same(outcome, execute(replace(made, partial=None)))


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_training(
    source, monkeypatch, tmp_path
):
    def full(path, content):
        raise StoreError(f"cannot write {path}: No space left on device")

    made = replace(make(source, stage="search"), partial=tmp_path / "partial.pt")
    monkeypatch.setattr(checkpoint.records, "write_bytes", full)
    monkeypatch.setattr(keeper, "EVERY_S", 0.0)
    outcome = execute(made)
    assert same(outcome, execute(replace(made, partial=None)))
    assert "no checkpoint at step 0" in outcome.record.measured["checkpoint"]


def test_a_checkpoint_holds_no_code(source, monkeypatch, tmp_path):
    """torch reads it back with nothing but tensors and plain data allowed."""
    made = replace(make(source, "bfe"), partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))
    found = torch.load(_payload(made.partial), weights_only=True)
    assert found["state"]["course"]["attributes"] == {
        "method._map_size": ("tuple", [("value", 4), ("value", 4)])
    }
    made.partial.write_bytes(_pickled(made.partial))
    outcome = execute(made)
    assert "it is no checkpoint" in outcome.record.measured["checkpoint"]
    assert not (tmp_path / "ran").exists()


def _pickled(path):
    """Return a file with a right checksum whose content would run code if it were unpickled."""

    class Runs:
        def __reduce__(self):
            return Path.touch, (path.with_name("ran"),)

    buffer = io.BytesIO()
    torch.save({"identity": {}, "state": Runs()}, buffer)
    content = buffer.getvalue()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


# Methods that keep something beside their modules.

HEAD = '''\
"""A method that keeps something."""
import random
import threading
from collections import deque

import numpy as np
import torch
from torch.nn.functional import normalize

from protocols.method import Method, Term

{above}

class Keeps(Method):
    """Pairs, weighed by something that is kept."""

    {body}

    def make_terms(self, spec):
        {start}
        return [Term(self.pairs)]

    def pairs(self, z, labels):
        z, same = normalize(z), labels[:, None] == labels
        loss = ((z @ z.T) * (1 - 2 * same.float())).mean()
        {step}
        return loss * weight
'''
GOES_ON = {
    "counter": ("", "", "self.count = 0", "self.count += 1; weight = 1 + self.count"),
    "late": ("", "count = 0", "", "self.count += 1; weight = 1 + self.count"),
    "number": ("", "", "self.seen = np.float32(0)", "self.seen += 1; weight = float(self.seen)"),
    "list": (
        "",
        "",
        "self.seen = []",
        "self.seen.append(loss.item()); weight = 1 + sum(self.seen)",
    ),
    "queue": (
        "",
        "",
        "self.queue = deque(maxlen=3)",
        "self.queue.append(z.detach().mean(0)); weight = 1 + sum(q.sum() for q in self.queue)",
    ),
    "dict": (
        "",
        "",
        "self.seen = {}",
        "self.seen[len(self.seen)] = (loss.item(), None, {1, 2}); weight = len(self.seen)",
    ),
    "tensor": (
        "",
        "",
        "self.bank = torch.zeros(4)",
        "self.bank[1] += loss.detach(); weight = 1 + self.bank.sum()",
    ),
    "array": (
        "",
        "",
        "self.bank = np.zeros(4)",
        "self.bank[1] += loss.item(); weight = 1 + self.bank.sum()",
    ),
    "quiet_buffer": (
        "",
        "",
        "self.register_buffer('bank', torch.zeros(4), persistent=False)",
        "self.bank += loss.detach(); weight = 1 + self.bank.sum()",
    ),
    "numpys_generator": ("", "", "np.random.seed(0)", "weight = 1 + np.random.rand()"),
    "pythons_generator": ("", "", "random.seed(0)", "weight = 1 + random.random()"),
    "shared": (
        "",
        "",
        "self.one = []; self.two = self.one",
        "self.one.append(1); weight = len(self.two)",
    ),
}
STARTS_ANEW = {
    "generator": (
        "",
        "",
        "self.steps = (n for n in range(1, 10**6))",
        "weight = next(self.steps)",
        "method.steps cannot be looked into",
    ),
    "own_generator": (
        "",
        "",
        "self.rng = np.random.default_rng(0)",
        "weight = 1 + self.rng.random()",
        "method.rng was changed, and holds a Generator, which is not plain data",
    ),
    "closure": (
        "",
        "",
        "held = []; self.memory = lambda x: held.append(x) or len(held)",
        "weight = self.memory(1)",
        "method.memory was changed, and holds a function",
    ),
    "class_data": (
        "",
        "memory = []",
        "self.memory.clear()",
        "self.memory.append(1); weight = len(self.memory)",
        "class Keeps: memory was changed, and is no attribute of a module",
    ),
    "file_data": (
        "MEMORY = []",
        "",
        "MEMORY.clear()",
        "MEMORY.append(1); weight = len(MEMORY)",
        "MEMORY was changed, and is no attribute of a module",
    ),
    "shared_in_part": (
        "",
        "",
        "self.one = [[]]; self.two = self.one[0]",
        "self.two.append(1); weight = len(self.one[0])",
        "method.two was changed, and method.one holds part of it too",
    ),
    "view_of_a_weight": (
        "",
        "seen = None",
        "",
        "self.seen = self.head.weight.data[:1]; weight = 1 + self.seen.sum() * 0",
        "method.seen was changed, and method.head.weight holds part of it too",
    ),
    "graph": (
        "",
        "last = None",
        "",
        "self.last = loss; weight = 1",
        "method.last was changed, and holds a Tensor, which is not plain data",
    ),
    "frozen": (
        "",
        "",
        "pass",
        "self.head.bias.requires_grad_(False); weight = 1",
        "parameter method.head.bias was changed, and is no attribute of a module",
    ),
    "lock": (
        "",
        "",
        "self.lock = threading.Lock()",
        "weight = 1",
        "method.lock cannot be looked into",
    ),
}


def plugin(tmp_path, name, above, body, start, step):
    path = tmp_path / f"keeps_{name}.py"
    text = HEAD.format(above=above, body=body or "paper = ''", start=start or "pass", step=step)
    path.write_text(text)
    return path


@pytest.fixture
def _generators_as_before():
    states = np.random.get_state(), random.getstate()
    yield
    np.random.set_state(states[0])
    random.setstate(states[1])


@pytest.mark.usefixtures("_generators_as_before")
@pytest.mark.parametrize("name", GOES_ON)
def test_plain_data_in_attributes_is_kept(source, name, monkeypatch, tmp_path):
    path = plugin(tmp_path, name, *GOES_ON[name])
    made = make(source, path.stem, plugins=(path,), stage="search")
    whole = execute(made)
    outcome = resumed(monkeypatch, made, tmp_path, (3, 7))
    assert same(outcome, whole)
    assert outcome.record.measured["resumed"] == [3, 7], outcome.record.measured


@pytest.mark.parametrize("name", STARTS_ANEW)
def test_what_cannot_be_kept_starts_anew_and_says_so(source, name, monkeypatch, tmp_path, capsys):
    *parts, words = STARTS_ANEW[name]
    path = plugin(tmp_path, name, *parts)
    made = make(source, path.stem, plugins=(path,), stage="search")
    whole = execute(made)
    made = replace(made, partial=tmp_path / "partial.pt")
    said = killed_at(monkeypatch, made, (7,))
    assert words in said[0]
    assert said[0].endswith("Stopped, this training starts anew")
    assert said[0] in capsys.readouterr().out
    assert not made.partial.exists()
    outcome = execute(made)
    assert same(outcome, whole)
    assert "resumed" not in outcome.record.measured


def test_each_process_has_generators_of_its_own(source, monkeypatch, tmp_path):
    """numpy's and Python's state is nobody's business unless the method moved it."""
    made = make(source, stage="search")
    whole = execute(made)
    made = replace(made, partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))
    states = np.random.get_state(), random.getstate()
    try:
        np.random.seed(5)
        random.seed(5)
        before = random.getstate()
        outcome = execute(made)
        assert random.getstate() == before
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    assert same(outcome, whole)
    assert outcome.record.measured["resumed"] == [7]


def test_a_crash_after_going_on_drops_the_checkpoint(source, monkeypatch, tmp_path):
    made = replace(make(source, stage="search"), partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, made, (7,))

    def broken(*args):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(HostSteps, "take", broken)
        assert execute(made).record.status == "failed"
    assert not made.partial.exists()


def test_records_content_of_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "partial.pt")
    with pytest.raises(checkpoint.UnusableError, match="damaged"):
        checkpoint.read(tmp_path / "partial.pt", {})
    assert records.content(tmp_path / "partial.pt") == b""


def test_deques_come_back_with_their_length():
    values = [deque([1, (2.5, "x")], maxlen=2), {"a": [None, True]}, {1, 2}, np.int16(3)]
    back = unplain(plain(values))
    assert back == values
    assert back[0].maxlen == 2
    assert type(back[3]) is np.int16
