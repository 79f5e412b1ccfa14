"""The small task that the conformance checks put a method on: 8 classes of 4 images.

There is no trunk: the features are made, the classes overlap at the start and can be pulled apart.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from protocols import pretend_device
from protocols.contract import check_built, losses_of, plan_of, views_from
from protocols.method import Batch, Draw, Features, Method, TrainSpec
from protocols.metrics import per_query
from protocols.mixing import mixed, mixing_of
from protocols.plugin_code import told
from protocols.pretend_device import to_device
from protocols.space import Settings, declared, defaults
from protocols.teacher import Teacher

CLASSES, PER_CLASS, CHANNELS, SIDE, EMBEDDING = 8, 4, 16, 4, 12
STAGES = 4  # that the toy trunk can show
ROWS = CLASSES * PER_CLASS
SPEC = TrainSpec(
    labels=np.repeat(np.arange(CLASSES), PER_CLASS),
    classes=CLASSES,
    channels=CHANNELS,
    embedding_size=EMBEDDING,
    folds=2,
    batch_size=ROWS,
    steps=100,
    steps_per_epoch=10,
)
HALF = replace(SPEC, batch_size=ROWS // 2)  # a memory of all images is larger than a batch
NAMES = (
    *("red boat", "red cart", "blue boat", "blue cart"),
    *("old mill", "old barn", "tall mill", "tall barn"),
)
GROUPS = np.array([0, 0, 1, 1, 2, 2, 2, 3])
SETTLING = 3  # steps before settings are compared: a memory or an average needs some
PHASES = (0, SPEC.steps * 3 // 10, SPEC.steps - 1)  # steps: a method may go through phases
_MAX_CORNERS = 64
Check = Callable[[type[Method]], None]
# Beside the method: as a part of it the teacher would be among its parameters.
_TEACHERS: WeakKeyDictionary[Method, Teacher] = WeakKeyDictionary()


def keeps_random_state(check: Check) -> Check:
    """Return ``check`` so that the global generators it seeds are as before it afterwards."""

    @functools.wraps(check)
    def kept(method: type[Method]) -> None:
        python, numpy = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                check(method)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

    return kept


def build(
    method: type[Method],
    settings: Settings | None = None,
    seed: int = 0,
    spec: TrainSpec = SPEC,
) -> Method:
    """Return the method on the toy task, in training mode, from a fixed torch seed."""
    torch.default_generator.manual_seed(seed)
    built = method(spec_for(method, spec), **(settings or {}))
    check_built(built)
    built.prepare(lambda view: probed(built, view))
    return built.train()


def spec_for(method: type[Method], spec: TrainSpec = SPEC) -> TrainSpec:
    """Return ``spec`` with what the method asks for: stages' channels, names, groups."""
    count, side = method.wants.stages, method.wants.side
    assert count <= STAGES, f"Wants(stages={count}): the toy trunk has {STAGES} stages"
    return replace(
        spec,
        stage_channels=tuple(CHANNELS >> n for n in reversed(range(count))),
        names=NAMES if "names" in side and spec.names is None else spec.names,
        groups=GROUPS if "groups" in side and spec.groups is None else spec.groups,
    )


def views_of(built: Method, feature_map: Tensor) -> dict[str, Tensor]:
    """Return what losses see of maps: the method's views, while training also its teacher's."""
    features = as_features(feature_map, built.wants.stages)
    views = views_from(built, features)
    teacher = teacher_of(built) if built.training else None
    return views if teacher is None else {**views, **teacher(features)}


def corners(method: type[Method]) -> list[Settings]:
    """Return the space's corners; beyond 64 of them, each axis' ends with defaults elsewhere."""
    space = declared(method)
    axes = [parameter.corners() for parameter in space.values()]
    if math.prod(len(axis) for axis in axes) <= _MAX_CORNERS:
        return [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]
    base = defaults(space)
    return [{**base, name: v} for name, p in space.items() for v in p.corners()]


def toy_labels() -> Tensor:
    """Return (32,) labels: 8 classes, 4 rows each."""
    return torch.tensor(SPEC.labels)  # a copy: a method may be faulty and write to it


def toy_features() -> Tensor:
    """Return non-negative (32, 16, 4, 4) maps: weak class signal under strong noise."""
    generator = torch.Generator().manual_seed(11)
    centres = torch.rand(CLASSES, CHANNELS, 1, 1, generator=generator)
    noise = torch.rand(ROWS, CHANNELS, 1, 1, generator=generator)
    texture = 0.2 * torch.rand(ROWS, CHANNELS, SIDE, SIDE, generator=generator)
    return centres.repeat_interleave(PER_CLASS, 0) + 1.5 * noise + texture


def toy_batch(labels: Tensor | None = None, step: int = 0) -> Batch:
    """Return the step information of one toy batch."""
    labels = toy_labels() if labels is None else labels
    epoch = step // SPEC.steps_per_epoch
    return Batch(labels, torch.arange(len(labels)), group=0, step=step, epoch=epoch)


def looked_at(built: Method) -> dict[int, str]:
    """Return the steps at which a loss is looked at, with words that end a message.

    They are step 0 and, where the method has phases under its setting, the first step of each and
    the last step of all: by then a memory holds something and a gradual change is whole. A phase
    that begins after the budget has no batch; a study refuses it.
    """
    with told("the phases", type(built)):
        phases = tuple(built.phases(built.settings, SPEC.steps, SPEC.steps_per_epoch))
        begun = {p.begins: f"where phase {p.name!r} begins" for p in phases}
    found = {SPEC.steps - 1: "the last", **begun} if phases else {}
    words = {step: f", at step {step} of {SPEC.steps}, {why}" for step, why in found.items()}
    return {0: ""} | {step: words[step] for step in sorted(words) if 0 < step < SPEC.steps}


def toy_batches(built: Method, labels: Tensor | None = None) -> list[tuple[str, Batch]]:
    """Return a toy batch of each step that is looked at, with words that end a message.

    They are for one build of the method, in this order: a later phase may read what an earlier
    one has kept.
    """
    return [(where, toy_batch(labels, step)) for step, where in looked_at(built).items()]


def as_features(feature_map: Tensor, stages: int = 0) -> Features:
    """Return trunk features with an average-pooled vector, and maps of as many stages.

    Each stage has half of the next one's channels at twice its height and width.
    """
    found = [feature_map][:stages]
    while len(found) < stages:
        after = found[0]
        sides = [2 * side for side in after.shape[2:]]
        found.insert(0, interpolate(after[:, : after.shape[1] // 2], size=sides))
    return Features(feature_map, feature_map.mean(dim=(2, 3)), tuple(found))


def teacher_of(built: Method) -> Teacher | None:
    """Return the teacher that follows a method on the toy task, made when first asked for."""
    if built.teacher is not None and built not in _TEACHERS:
        _TEACHERS[built] = Teacher(nn.Identity(), built)
    return _TEACHERS.get(built)


def as_mixed(built: Method, feature_map: Tensor, batch: Batch) -> tuple[Tensor, Batch]:
    """Return features and batch as a method gets them that wants its images mixed."""
    mixing = mixing_of(built)
    if mixing is None or batch.partner is not None:
        return feature_map, batch
    partner, share = mixing.draw(len(feature_map), np.random.default_rng(batch.step))
    on = feature_map.device
    batch = replace(
        batch, partner=torch.as_tensor(partner, device=on), share=torch.tensor(share, device=on)
    )
    assert batch.partner is not None
    assert batch.share is not None
    return mixed(feature_map, batch.partner, batch.share), batch


def loss_of(built: Method, feature_map: Tensor, batch: Batch) -> Tensor:
    """Return the sum of the method's terms."""
    feature_map, batch = as_mixed(built, feature_map, batch)
    values = losses_of(built, views_of(built, feature_map), batch)
    return torch.stack(list(values.values())).sum(0)


def probed(
    built: Method, view: str, feature_map: Tensor | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the toy training images' rows of a view, seen in eval mode."""
    seen = toy_features() if feature_map is None else feature_map
    mode = built.training
    with torch.no_grad():
        vector = view == "vector"
        rows = as_features(seen).vector if vector else views_of(built.eval(), seen)[view]
    built.train(mode)
    return np.asarray(rows.cpu().numpy(), dtype=np.float32)


def train(built: Method, steps: int, spec: TrainSpec = SPEC) -> None:
    """Take ``steps`` training steps, on batches of the plan or of the toy images in turn."""
    optimizer = torch.optim.Adam([p for p in built.parameters() if p.requires_grad], lr=1e-2)
    for step, draw in zip(range(steps), _toy_draws(built, spec)):  # noqa: B905 - draws have no end
        index = torch.as_tensor(np.asarray(draw.index))
        batch = Batch(toy_labels()[index], index, draw.group, step, step // SPEC.steps_per_epoch)
        optimizer.zero_grad()
        loss_of(built, toy_features()[index], batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if teacher := teacher_of(built):
            teacher.follow(nn.Identity(), built)


def _toy_draws(built: Method, spec: TrainSpec) -> Iterator[Draw]:
    """Yield batches without end: the method's plan, or else the toy images in turn."""
    rng = np.random.default_rng(0)
    # Each batch has images of all classes, two or more of a class.
    parts = ROWS // spec.batch_size
    whole = itertools.cycle(Draw(range(part, ROWS, parts)) for part in range(parts))
    for epoch in itertools.count():
        plan = plan_of(built, epoch, lambda view: probed(built, view), rng)
        yield from itertools.islice(whole if plan is None else plan, SPEC.steps_per_epoch)


def toy_map_at_r(built: Method) -> float:
    """Return MAP@R of all toy images under the method's own rule of comparison."""
    with torch.no_grad():
        embedding = views_of(built.eval(), toy_features())["embedding"]
    built.train()
    return per_query(embedding.numpy(), SPEC.labels, ranking=built.ranked_by).means()["map_at_r"]


def fingerprint(
    method: type[Method], settings: Settings, spec: TrainSpec = HALF
) -> tuple[object, ...]:
    """Return what ``settings`` make of losses, rates, plan, embeddings and their comparison.

    Losses and plan are taken at the start and after some steps, when a memory holds something
    and an average has moved.
    """
    built = build(method, settings, spec=spec)
    rates = [(g.name, g.lr, g.lr_factor, g.decay) for g in built.groups()]
    seen = [_losses(built), _drawn(built)]
    if method.trains:
        train(built, SETTLING, HALF)
        seen += [_losses(built), _drawn(built)]
    return (str(rates), str(seen), str(embed(built).tolist()), built.ranked_by)


def _losses(built: Method) -> list[float]:
    """Return the terms' values at steps of several phases."""
    if not built.trains:
        return []
    index = torch.arange(0, ROWS, ROWS // built.spec.batch_size)  # a batch as large as it may be
    images, first = as_mixed(
        built, toy_features()[index], Batch(toy_labels()[index], index, 0, 0, 0)
    )
    views = views_of(built, images)
    batches = [replace(first, step=s, epoch=s // SPEC.steps_per_epoch) for s in PHASES]
    return [v.item() for batch in batches for v in built.losses(views, batch).values()]


def _drawn(built: Method) -> list[list[int]]:
    """Return the first batches of the method's plan, none if it has none."""
    plan = plan_of(built, 0, lambda view: np.zeros((ROWS, 2), np.float32), np.random.default_rng(0))
    return [np.asarray(d.index).tolist() for d in itertools.islice(plan or (), 3)]


def embed(built: Method) -> Tensor:
    """Return the eval embedding of the toy images, (32, D)."""
    with torch.no_grad():
        embedding: Tensor = views_of(built.eval(), toy_features())["embedding"]
    built.train()
    return embedding


def use_on_device(built: Method) -> None:
    """Prepare, plan, train without updates and embed on the pretended device."""
    pretend_device.move(built)
    images = to_device(toy_features())

    def probe(view: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return probed(built, view, images)

    built.prepare(probe)
    plan = plan_of(built, 0, probe, np.random.default_rng(0))
    first = None if plan is None else next(plan, None)
    group = 0 if first is None else first.group
    labels, index = to_device(toy_labels()), to_device(torch.arange(ROWS))
    steps = sorted({*range(SETTLING), *PHASES, *looked_at(built)})
    for step in steps if built.trains else ():
        batch = Batch(labels, index, group, step, step // SPEC.steps_per_epoch)
        loss_of(built, images.clone().requires_grad_(), batch).backward()  # type: ignore[no-untyped-call]
    probe("embedding")
