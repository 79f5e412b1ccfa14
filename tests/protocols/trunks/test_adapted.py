"""Trunks that hold another one: what trains, what stays, what they start from, what names them."""

import importlib.util
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job, build_network, execute
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, UnknownNameError
from protocols.method import Wants
from protocols.trunks._adapted import Adapted
from protocols.trunks.lora8 import RANK, LoRA, LowRank
from protocols.trunks.prompt10 import COUNT, Prompted
from tests.protocols.trunks.networks import pixels, seeded

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")
VIT = "timm:vit_tiny_patch16_224"
PROTOCOL = load("protocol", "toy")
OWN = '''"""A pooled convolution, for tests."""

from torch import nn

from protocols.errors import InvalidInputError
from protocols.trunk import Trunk


class Mine(Trunk):
    """One convolution."""

    channels = 8
    nonnegative = False

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)

    def map(self, images):
        return self.conv(images)


def build(weights=None):
    if weights is not None:
        raise InvalidInputError(f"no weights; leave out {weights}")
    return Mine()
'''


def built(name, seed=0):
    with seeded(seed):
        return load("trunk", name).build()


def job(tmp_path, trunk, method="triplet", plugins=()):
    cell = CellKey("id", "toy", trunk, "adam", method, method, load("method", method).trains)
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    recipe = load("recipe", "adam")
    return Job(cell, PROTOCOL, recipe, "search", 0, 0, {}, source, "cpu", plugins)


def adapters(rank, shapes):
    return sum(rank * (rows + columns) for rows, columns in shapes)


TINY = 28_768  # parameters of tiny: 27 * 32 + 3 * 288 * 32 and four BatchNorms of 2 * 32
ADDED = adapters(RANK, [(32, 27), *[(32, 288)] * 3])
HEAD = 32 * 32 + 32


@pytest.mark.parametrize(
    ("trunk", "trained", "deployed"),
    [
        ("tiny", TINY + HEAD, TINY + HEAD),
        ("frozen:tiny", HEAD, TINY + HEAD),
        ("lora8:tiny", ADDED + HEAD, TINY + ADDED + HEAD),
    ],
)
def test_a_record_counts_what_trains_and_what_is_deployed(tmp_path, trunk, trained, deployed):
    record = execute(job(tmp_path, trunk)).record
    assert record.status == "done", record.detail
    assert PROTOCOL.embedding_size == 32
    assert record.counts["parameters_trained"] == trained
    assert record.counts["parameters_deployed"] == deployed


@pytest.mark.parametrize("trunk", ["frozen:tiny", "lora8:tiny"])
def test_a_training_moves_nothing_of_the_inner_trunk(tmp_path, monkeypatch, trunk):
    kept = []

    def noted(*args):
        network = build_network(*args)
        kept.append((network, deepcopy(network.state_dict())))
        return network

    monkeypatch.setattr("benchmark.training.job.build_network", noted)
    record = execute(job(tmp_path, trunk)).record
    assert record.best_step > 0, record.detail
    network, before = kept[-1]
    assert network.batch_norm == "live"
    network.train()
    norms = [m for m in network.trunk.modules() if isinstance(m, _BatchNorm)]
    assert len(norms) == 4
    assert not any(norm.training for norm in norms)
    moved = {name for name, v in network.state_dict().items() if not torch.equal(v, before[name])}
    added = {name for name, p in network.named_parameters() if p.requires_grad}
    assert moved == added
    assert all(p.grad is None for p in network.trunk.parameters() if not p.requires_grad)


@pytest.mark.parametrize("trunk", ["frozen:tiny", "lora8:tiny", "frozen:mobilenet_v2"])
def test_it_starts_with_the_bits_of_its_inner_trunk(trunk):
    ours, plain = built(trunk).eval(), built(trunk.partition(":")[2]).eval()
    images = plain.scale(pixels(64, count=2))
    with torch.no_grad():
        found, wanted = ours(images), plain(images)
    assert torch.equal(found.map, wanted.map)
    assert torch.equal(found.vector, wanted.vector)
    assert (ours.channels, ours.scale, ours.nonnegative, ours.pretrained) == (
        *(plain.channels, plain.scale, plain.nonnegative, plain.pretrained),
    )


def test_a_rows_without_training_under_adapters_is_that_of_the_inner_trunk(tmp_path):
    """Not of a study, whose seeds hold the trunk's name, but of equal inner weights."""
    plain = job(tmp_path, "tiny", "untrained")
    train, validation = splits.open_fold(plain.source, PROTOCOL, 0)
    network = build_network(plain, train)
    wrapped = LoRA(deepcopy(network.trunk), RANK)
    from benchmark.training import evaluate

    then = evaluate.embed(network, validation, PROTOCOL)
    network.trunk = wrapped
    assert (evaluate.embed(network, validation, PROTOCOL) == then).all()


def test_a_low_rank_weight_by_a_loop():
    with seeded():
        layer = nn.Conv2d(3, 5, 3)
        adapted = LowRank(layer.weight.detach(), 2)
        adapted.up.data.normal_()
    found = adapted(layer.weight).detach()
    down, up = adapted.down.detach().double(), adapted.up.detach().double()
    for o in range(5):
        for i in range(3):
            for y in range(3):
                for x in range(3):
                    column = (i * 3 + y) * 3 + x
                    more = sum(float(up[o, r] * down[r, column]) for r in range(2))
                    assert float(found[o, i, y, x]) == pytest.approx(
                        float(layer.weight.detach()[o, i, y, x]) + more, abs=1e-6
                    )


def test_adapters_are_where_they_are_smaller_than_the_weight():
    trunk = built("lora8:mobilenet_v2")
    names = {name for name, p in trunk.named_parameters() if p.requires_grad}
    assert all(name.endswith((".0.up", ".0.down")) for name in names)
    convolutions = {
        name: m for name, m in built("mobilenet_v2").named_modules() if isinstance(m, nn.Conv2d)
    }
    taken = {n.removeprefix("inner.").partition(".parametrizations")[0] for n in names}
    for name, layer in convolutions.items():
        rows, columns = layer.weight.flatten(1).shape
        small = RANK * (rows + columns) < rows * columns
        assert (name in taken) == (small and layer.groups == 1), name
    assert any(layer.groups > 1 for layer in convolutions.values())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("frozen:lora8:tiny", InvalidInputError, "a Frozen trunk holds a trunk as it is"),
        ("lora8:frozen:tiny", InvalidInputError, "a LoRA trunk holds a trunk as it is"),
        ("prompt10:tiny", InvalidInputError, "prompts need .* of timm; trunk Tiny is none"),
        ("frozen", InvalidInputError, "frozen:TRUNK"),
        ("frozen:timm", InvalidInputError, "timm:NAME"),
        ("frozen:tinny", UnknownNameError, "no trunk 'tinny'.*Did you mean 'tiny'"),
        ("frozen:tiny:3", InvalidInputError, "'tiny' takes no argument"),
    ],
)
def test_what_cannot_be_held_is_refused_in_one_line(name, error, words):
    with pytest.raises(error, match=words) as caught:
        load("trunk", name).build()
    assert "\n" not in str(caught.value)


def test_a_trunk_without_a_layer_to_adapt_is_refused():
    class Bare(Adapted):
        pass

    small = built("tiny")
    small.stages = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(InvalidInputError, match="Tiny has none"):
        LoRA(small, RANK)


def test_the_inner_trunk_makes_the_edits_and_the_refusals():
    trunk = built("lora8:tiny").eval()
    trunk.honour(Wants(last_stride=1, map=True), "bfe")
    with torch.no_grad():
        assert trunk(torch.zeros(1, 3, 64, 64)).map.shape[2:] == (8, 8)
    with pytest.raises(InvalidInputError, match=r"'bfe'.*cannot set its last stride"):
        built("frozen:googlenet").honour(Wants(last_stride=1), "bfe")


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


def test_a_plugin_trunk_is_known_by_its_build_and_can_be_held(mine, tmp_path):
    registry = Registry((mine,))
    assert registry.own("trunk") == ["mine"]
    assert registry.own("method") == []
    assert registry.usage("trunk", "frozen") == "frozen:TRUNK"
    trunk = registry.load("trunk", "frozen:mine").build()
    assert type(trunk.inner).__name__ == "Mine"
    assert registry.ships("trunk", "frozen:tiny")
    assert not registry.ships("trunk", "frozen:mine")
    record = execute(job(tmp_path, "frozen:mine", plugins=(mine,))).record
    assert record.counts["parameters_deployed"] == 8 * 28 + 32 * 9
    assert record.counts["parameters_trained"] == 32 * 9


def test_the_digest_covers_the_trunk_inside(mine):
    before = Registry((mine,)).code_digest("trunk", "frozen:mine")
    assert before not in {Registry((mine,)).code_digest("trunk", n) for n in ("mine", "lora8:mine")}
    mine.write_text(OWN.replace("3, 8, 3, 2", "3, 8, 3, 1"))
    assert Registry((mine,)).code_digest("trunk", "frozen:mine") != before
    mine.write_text(OWN.replace('"""One convolution."""', '"""Just one convolution."""'))
    assert Registry((mine,)).code_digest("trunk", "frozen:mine") == before


@needs_timm
def test_a_vision_transformer_takes_prompts_and_adapters():
    for name in (f"prompt10:{VIT}", f"lora8:{VIT}"):
        ours, plain = built(name).eval(), built(VIT).eval()
        images = plain.scale(pixels(64, count=2))
        with torch.no_grad():
            found, wanted = ours(images), plain(images)
        assert found.map.shape == wanted.map.shape
        assert torch.equal(found.vector, wanted.vector) == name.startswith("lora8")
    prompts = [p for p in built(f"prompt10:{VIT}").parameters() if p.requires_grad]
    assert [tuple(p.shape) for p in prompts] == [(COUNT, 192)] * 12
    bound = (6 / (3 * 16 * 16 + 192)) ** 0.5
    assert 0.95 * bound < max(float(p.abs().max()) for p in prompts) <= bound
    with pytest.raises(InvalidInputError, match="trunk timm:resnet18 is none"):
        built("prompt10:timm:resnet18")


def test_prompts_are_seen_by_the_block_and_dropped_behind_it():
    class Sum(nn.Module):
        def forward(self, tokens):
            return tokens + tokens.sum(1, keepdim=True)

    with seeded():
        prompted, tokens = Prompted(Sum(), 3, 4, 1.0), torch.randn(2, 5, 4)
    wanted = tokens + tokens.sum(1, keepdim=True) + prompted.prompts.sum(0)
    torch.testing.assert_close(prompted(tokens), wanted)
    assert prompted(tokens).shape == tokens.shape


def test_only_what_is_drawn_and_moves_features_is_said_to_start_at_random():
    registry = Registry()
    assert registry.starts_at_random(f"prompt10:{VIT}")
    assert not any(map(registry.starts_at_random, ("tiny", "frozen:tiny", "lora8:tiny", VIT)))
    held = partial(deepcopy, built("tiny"))
    one, other = (load("trunk", "lora8:tiny").build(inner=lambda w: held()) for _ in range(2))
    assert not torch.equal(next(iter(_downs(one))), next(iter(_downs(other))))


def _downs(trunk):
    return (p for name, p in trunk.named_parameters() if name.endswith("down"))
