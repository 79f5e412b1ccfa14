"""What every trunk must keep, as plain checks: ``python -m benchmark check NAME_OR_FILE``.

Trunks start at random here and see made images, so a check needs no weights and no data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from protocols import pretend_device
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.method import Features, Wants
from protocols.toy_trunk import (
    ROWS,
    STEPS,
    Candidate,
    apart_of,
    images,
    made,
    pixels_of,
    seeded,
    seen,
    settled,
    side_of,
    train,
    value_of,
)
from protocols.trunk import InputScale, Trunk

ALIKE = 1e-4  # largest difference of features, relative to their length, that is rounding
WIDEST = 255.0  # spread of an input that nobody has divided by anything

Check = Callable[[Candidate], None]


def check_declares_itself(candidate: Candidate) -> None:
    """``build(weights)`` gives a Trunk with a docstring, its channels and its input scale."""
    trunk = made(candidate)
    assert isinstance(trunk, Trunk), f"build() gave a {type(trunk).__name__}, expected a Trunk"
    assert type(trunk).__doc__, "the class needs a docstring"
    channels = getattr(trunk, "channels", None)
    assert isinstance(channels, int), f"channels={channels!r}: expected the width of the vector"
    assert channels > 0, f"channels={channels}: expected the width of the vector"
    assert not trunk.pretrained, "it says pretrained without weights"


def check_scales_pixels(candidate: Candidate) -> None:
    """``scale`` turns pixels of 0 to 255 into a plausible input: its mean is that of pixels."""
    scale = made(candidate).scale
    assert isinstance(scale, InputScale), f"scale is a {type(scale).__name__}, not an InputScale"
    highest = 255 * scale.factor
    for mean, std in zip(scale.mean, scale.std, strict=True):
        assert std > 0, f"scale.std holds {std}: expected more than 0"
        assert 0 <= mean <= highest, (
            f"scale.mean holds {mean}, where pixels times factor lie in 0 to {highest:g}: mean and "
            "factor must be of one unit"
        )
        assert highest / std <= WIDEST, (
            f"scale.std holds {std}, so inputs span {highest / std:g}: std and factor must be of "
            "one unit"
        )


def check_shapes(candidate: Candidate) -> None:
    """It gives a map (B, C, H, W) and a vector (B, C), finite float32, of its ``channels``."""
    trunk = made(candidate).eval()
    features = seen(trunk)
    assert isinstance(features, Features), f"forward() gave {type(features).__name__}"
    channels, feature_map, vector = trunk.channels, features.map, features.vector
    assert feature_map.ndim == 4, f"the map must be (B, C, H, W), met {tuple(feature_map.shape)}"
    assert feature_map.shape[:2] == (ROWS, channels), (
        f"the map is {tuple(feature_map.shape)} of {ROWS} images with channels={channels}"
    )
    assert vector.shape == (ROWS, channels), (
        f"the vector is {tuple(vector.shape)} of {ROWS} images with channels={channels}"
    )
    for name, value in (("map", feature_map), ("vector", vector)):
        assert value.dtype == torch.float32, f"the {name} is {value.dtype}, expected float32"
        assert bool(value.isfinite().all()), f"the {name} has numbers that are not finite"
    with torch.no_grad():
        again = trunk.map(images(trunk))
    assert torch.equal(again, feature_map), "map() and forward() give different maps"


def check_nonnegative_is_true(candidate: Candidate) -> None:
    """Where it says ``nonnegative`` its map has no number below 0."""
    trunk = made(candidate)
    if trunk.nonnegative:
        lowest = float(seen(settled(trunk)).map.min())
        assert lowest >= 0, f"the map has {lowest:.3g}: say nonnegative = False"


def check_eval_is_deterministic(candidate: Candidate) -> None:
    """Eval gives the same features twice, whatever else is in the batch."""
    trunk = settled(made(candidate))
    first, second = seen(trunk), seen(trunk)
    assert torch.equal(first.vector, second.vector), "two eval passes differ"
    assert torch.equal(first.map, second.map), "two eval passes differ"
    with torch.no_grad():
        alone = torch.cat([trunk(row[None]).vector for row in images(trunk)])
    apart = apart_of(alone, first.vector)
    assert apart < ALIKE, f"a vector depends on its batch mates: {apart:.2g} of its length"


def check_repeats_under_a_seed(candidate: Candidate) -> None:
    """The same torch seed starts the same trunk; no other generator is read."""
    states = []
    for other in (1, 2):
        with seeded():
            np.random.seed(other)  # a trunk that reads it must be caught
            random.seed(other)
            states.append(candidate.build(None).state_dict())
    assert states[0].keys() == states[1].keys(), "two builds have other parts"
    odd = [k for k, v in states[0].items() if not torch.equal(v, states[1][k])]
    assert not odd, f"the same torch seed started another {odd[0]}"


def check_refuses_unknown_weights(candidate: Candidate) -> None:
    """Weights that it does not know are refused: a random start must not pass for them."""
    refusal = ""
    try:
        candidate.build("no_such_set_of_weights")
    except BenchmarkError as error:
        refusal = str(error)
    assert refusal, "build('no_such_set_of_weights') was accepted: raise InvalidInputError"


def check_random_start_is_declared(candidate: Candidate) -> None:
    """What it draws beside the trunk inside moves no feature, unless RANDOM_START says so."""
    if candidate.inner is None:
        return
    with seeded():
        held = candidate.inner(None)
    found = []
    for number in (0, 1):
        with seeded(number):
            found.append(candidate.build(None, inner=lambda weights: deepcopy(held)).eval())
    moves = not torch.equal(seen(found[0]).vector, seen(found[1]).vector)
    assert moves == candidate.random_start, (
        "another torch seed gives other features of the same inner trunk: say RANDOM_START = True"
        if moves
        else "RANDOM_START is True, and another torch seed gives the same features"
    )


def check_learns_through_every_parameter(candidate: Candidate) -> None:
    """Every parameter that trains gets a gradient, and a frozen one gets none."""
    trunk = made(candidate)
    train(trunk, STEPS)
    trunk = settled(trunk)
    trunk.zero_grad()
    if not any(p.requires_grad for p in trunk.parameters()):
        return
    value_of(trunk(images(trunk))).backward()  # type: ignore[no-untyped-call]
    for name, parameter in trunk.named_parameters():
        got = parameter.grad
        if not parameter.requires_grad:
            assert got is None, f"{name} is frozen and gets a gradient"
            continue
        assert got is not None, f"parameter {name} never learns: it gets no gradient"
        assert bool(got.isfinite().all()), f"parameter {name} gets a non-finite gradient"
        assert bool(got.any()), f"parameter {name} never learns: its gradient is 0"


def check_frozen_parts_stay(candidate: Candidate) -> None:
    """Training leaves frozen parameters, and statistics of layers that only have such, alone."""
    trunk = made(candidate)
    still = dict(_still(trunk))
    kept = {name: value.detach().clone() for name, value in still.items()}
    train(trunk, STEPS)
    odd = [name for name, value in still.items() if not torch.equal(value, kept[name])]
    assert not odd, f"{odd[0]} changes in training although nothing of its layer trains"


def check_modes_and_states_return(candidate: Candidate) -> None:
    """Train mode leaves no trace in eval, and a kept state dict gives its features again."""
    trunk = made(candidate)
    train(trunk, STEPS)
    then = seen(trunk.eval()).vector
    assert torch.equal(seen(trunk.train().eval()).vector, then), "train() and eval() leave a trace"
    kept = {name: value.detach().clone() for name, value in trunk.state_dict().items()}
    train(trunk, STEPS)
    trunk.load_state_dict(kept)
    assert torch.equal(seen(trunk.eval()).vector, then), (
        "features are not those of the state dict: keep what eval needs in parameters and buffers"
    )
    again = made(candidate).eval()
    again.load_state_dict(kept)
    assert torch.equal(seen(again).vector, then), "a second build with its weights gives others"


def check_copies(candidate: Candidate) -> None:
    """A deep copy gives the same features and shares nothing; images are not changed in place."""
    trunk = made(candidate).eval()
    twin, shown = deepcopy(trunk), images(trunk)
    kept, before = shown.clone(), seen(trunk).vector
    with torch.no_grad():
        assert torch.equal(twin(shown).vector, before), "a deep copy gives other features"
    assert torch.equal(shown, kept), "the trunk changed its images in place"
    train(twin, STEPS)
    assert torch.equal(seen(trunk).vector, before), "training a deep copy moves the trunk"


def check_runs_on_another_device(candidate: Candidate) -> None:
    """Tensors are made on the device of the input: on a GPU those of the host are refused."""
    trunk = made(candidate).train()
    pixels = pretend_device.to_device(pixels_of(side_of(trunk)))
    try:
        with pretend_device.pretended():
            pretend_device.move(trunk)
            value = value_of(trunk(trunk.scale(pixels)))
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]
    except pretend_device.HostTensorError as error:
        raise AssertionError(
            f"{pretend_device.blame(error)} {error}. On a GPU this fails: make the tensor there, "
            "device=x.device for an x that came in, or keep it as a buffer"
        ) from error


def check_runs_in_bf16(candidate: Candidate) -> None:
    """Under autocast to bfloat16 it runs, and features are finite."""
    trunk = settled(made(candidate))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = seen(trunk)
    for name, value in (("map", features.map), ("vector", features.vector)):
        assert bool(value.isfinite().all()), f"in bfloat16 the {name} is not finite"


def check_stages(candidate: Candidate) -> None:
    """It gives the maps of as many stages as it agrees to, the last of them its map, or refuses."""
    for count in (1, 2, 3):
        trunk = made(candidate).eval()
        plain = seen(trunk)
        assert plain.stages == (), "it gives stages that nobody asked for"
        try:
            trunk.honour(Wants(stages=count), "some method")
        except InvalidInputError:
            return
        found = seen(trunk)
        shapes = [tuple(stage.shape) for stage in found.stages]
        assert len(shapes) == count, f"asked for {count} stages, met {shapes}"
        assert torch.equal(found.stages[-1], plain.map), "the last stage is not the map"
        assert torch.equal(found.vector, plain.vector), "stages change the vector"
        assert all(len(s) == 4 and s[0] == ROWS for s in shapes), f"stages {shapes}: expected maps"
        sides = [shape[2] for shape in shapes]
        assert sides == sorted(sides, reverse=True), f"stages {shapes}: expected early ones first"


def check_last_stride(candidate: Candidate) -> None:
    """A last stride of 1 doubles the map and leaves the weights, or it is refused."""
    trunk = made(candidate).eval()
    before, sides = deepcopy(trunk.state_dict()), seen(trunk).map.shape[2:]
    try:
        trunk.honour(Wants(last_stride=1), "some method")
    except InvalidInputError:
        return
    found = seen(trunk).map.shape[2:]
    assert found == tuple(2 * side for side in sides), f"stride 1 makes a map {found} of {sides}"
    same = all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert same, "setting the stride changes weights"


CHECKS: tuple[Check, ...] = (
    check_declares_itself,
    check_scales_pixels,
    check_shapes,
    check_nonnegative_is_true,
    check_eval_is_deterministic,
    check_repeats_under_a_seed,
    check_refuses_unknown_weights,
    check_random_start_is_declared,
    check_learns_through_every_parameter,
    check_frozen_parts_stay,
    check_modes_and_states_return,
    check_copies,
    check_runs_on_another_device,
    check_runs_in_bf16,
    check_stages,
    check_last_stride,
)


def _still(trunk: Trunk) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters that do not train, and buffers of layers that have none that do."""
    for prefix, module in trunk.named_modules():
        own = list(module.parameters(recurse=False))
        named = [*module.named_parameters(recurse=False)]
        if own and not any(p.requires_grad for p in own):
            named += [(n, b) for n, b in module.named_buffers(recurse=False)]
        for name, value in named:
            if not value.requires_grad:
                yield f"{prefix}.{name}", value
