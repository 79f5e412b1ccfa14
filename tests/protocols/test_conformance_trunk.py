"""The checks on trunks: healthy ones keep all, each planted fault is met by the check for it."""

import numpy as np
import pytest
import torch
from torch import nn

from protocols import conformance_trunk as checks
from protocols.discovery import Registry
from protocols.errors import InvalidInputError
from protocols.method import Features
from protocols.toy_trunk import Candidate
from protocols.trunk import InputScale, Trunk
from protocols.trunks._adapted import Adapted
from protocols.trunks.frozen import Frozen


class Healthy(Trunk):
    """Two convolutions, the first with BatchNorm."""

    channels = 6
    nonnegative = True
    begins = ("second",)

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())

    def map(self, images):
        return self.second(self.first(images))


def candidate(cls, **options):
    def build(weights=None, **inner):
        if weights is not None:
            raise InvalidInputError(f"no weights {weights}")
        return cls(**inner)

    return Candidate(build, **options)


def findings(tried):
    """Return the names of the checks that fail, with what they say."""
    found = {}
    for check in checks.CHECKS:
        try:
            check(tried)
        except AssertionError as error:
            found[check.__name__.removeprefix("check_")] = str(error)
    return found


@pytest.mark.parametrize("name", ["tiny", "frozen:tiny", "lora8:tiny"])
def test_what_ships_keeps_them(name):
    registry = Registry()
    inner = registry.inside("trunk", name)
    held = registry.load("trunk", inner).build if inner else None
    assert findings(Candidate(registry.load("trunk", name).build, held)) == {}


def test_a_plain_one_keeps_them():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    assert findings(candidate(Healthy)) == {}
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


class Undocumented(Healthy):
    pass


Undocumented.__doc__ = None


class WrongChannels(Healthy):
    """Says 8 and gives 6."""

    channels = 8


class FlatMap(Healthy):
    """Gives a map without places."""

    def map(self, images):
        return super().map(images).mean((2, 3))

    def pool(self, feature_map):
        return feature_map


class Signed(Healthy):
    """Has no ReLU at its end."""

    def map(self, images):
        return super().map(images) - 1


class BytesAsShares(Healthy):
    """Mean of shares, pixels as bytes."""

    scale = InputScale(factor=1.0)


class CaffeMeanOnShares(Healthy):
    """Mean of bytes, pixels as shares."""

    scale = InputScale(mean=(104.0, 117.0, 128.0))


class SumsTheBatch(Healthy):
    """Centres by the batch."""

    def pool(self, feature_map):
        pooled = super().pool(feature_map)
        return pooled + pooled.mean(0)


class Noisy(Healthy):
    """Draws in eval."""

    def pool(self, feature_map):
        pooled = super().pool(feature_map)
        return pooled + 0.1 * torch.rand_like(pooled)


class FromNumpy(Healthy):
    """Starts from numpy's generator."""

    def __init__(self):
        super().__init__()
        self.first[0].weight.data.mul_(float(np.random.rand()))


class DeadParameter(Healthy):
    """Has a scale that nothing reads."""

    def __init__(self):
        super().__init__()
        self.scaling = nn.Parameter(torch.ones(1))


class LiveNorm(Healthy):
    """Freezes parameters and leaves statistics live."""

    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)


class OnHost(Healthy):
    """Makes a tensor on the host."""

    def pool(self, feature_map):
        return super().pool(feature_map) * torch.ones(self.channels)


class InPlace(Healthy):
    """Writes to its images."""

    def map(self, images):
        return super().map(images.mul_(0.5))


class Remembers(Healthy):
    """Keeps what eval needs outside the state dict."""

    def __init__(self):
        super().__init__()
        self.seen = 0.0

    def map(self, images):
        if self.training:
            self.seen += 0.1
        return super().map(images) * (1 + self.seen)


class NoStages(Healthy):
    """Agrees to stages and gives none."""

    def forward(self, images):
        feature_map = self.map(images)
        return Features(feature_map, self.pool(feature_map))


class DeafToStride(Healthy):
    """Takes a stride and does nothing."""

    def set_last_stride(self, stride):
        pass


class TooLarge(Healthy):
    """Leaves the range of bfloat16's inputs."""

    def pool(self, feature_map):
        huge = feature_map.dtype == torch.bfloat16
        return super().pool(feature_map) * (float("inf") if huge else 1.0)


FAULTS = {
    Undocumented: ("declares_itself", "docstring"),
    WrongChannels: ("shapes", "with channels=8"),
    FlatMap: ("shapes", r"must be \(B, C, H, W\)"),
    Signed: ("nonnegative_is_true", "say nonnegative = False"),
    BytesAsShares: ("scales_pixels", "std and factor must be of one unit"),
    CaffeMeanOnShares: ("scales_pixels", "mean and factor must be of one unit"),
    SumsTheBatch: ("eval_is_deterministic", "depends on its batch mates"),
    Noisy: ("eval_is_deterministic", "two eval passes differ"),
    FromNumpy: ("repeats_under_a_seed", "started another first.0.weight"),
    DeadParameter: ("learns_through_every_parameter", "scaling never learns"),
    LiveNorm: ("frozen_parts_stay", "first.1.running_mean changes"),
    OnHost: ("runs_on_another_device", r"test_conformance_trunk\.py:\d+"),
    InPlace: ("copies", "changed its images in place"),
    Remembers: ("modes_and_states_return", "not those of the state dict"),
    NoStages: ("stages", r"asked for 1 stages, met \[\]"),
    DeafToStride: ("last_stride", "stride 1 makes a map"),
    TooLarge: ("runs_in_bf16", "the vector is not finite"),
}


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_met(cls):
    check, words = FAULTS[cls]
    with pytest.raises(AssertionError, match=words):
        getattr(checks, f"check_{check}")(candidate(cls))


def test_weights_that_are_passed_over_are_met():
    with pytest.raises(AssertionError, match="was accepted"):
        checks.check_refuses_unknown_weights(Candidate(lambda weights: Healthy()))


class Shifted(Adapted):
    """Adds numbers that start at random."""

    def __init__(self, inner):
        super().__init__(inner(None))
        self.shift = nn.Parameter(torch.randn(self.channels))

    def forward(self, images):
        features = super().forward(images)
        return features._replace(vector=features.vector + self.shift)


def held(weights):
    return Healthy()


@pytest.mark.parametrize(
    ("cls", "said", "words"),
    [
        (Shifted, False, "say RANDOM_START = True"),
        (Shifted, True, None),
        (lambda inner: Frozen(inner(None)), True, "gives the same features"),
        (lambda inner: Frozen(inner(None)), False, None),
    ],
)
def test_a_random_start_beside_the_weights_must_be_said(cls, said, words):
    def build(weights=None, inner=held):
        return cls(inner)

    tried = Candidate(build, held, said)
    if words is None:
        checks.check_random_start_is_declared(tried)
        return
    with pytest.raises(AssertionError, match=words):
        checks.check_random_start_is_declared(tried)
