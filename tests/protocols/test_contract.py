"""What a method gives is refused where it is read, by the name and line its author can mend."""

import inspect

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.contract import check_built, losses_of, plan_of, views_from
from protocols.errors import PluginError
from protocols.method import Draw, Method, Term
from protocols.network import Network
from protocols.toy_task import SPEC, as_features, build, toy_batch, toy_features, views_of
from protocols.trunks.tiny import build as tiny


class Healthy(Method):
    """Cosine regression."""

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, z, labels):
        z = normalize(z)
        return (z @ z.T - (labels[:, None] == labels).float()).square().mean()


def line_of(function):
    return f"(test_contract.py:{inspect.getsourcelines(function)[1]})"


@pytest.mark.parametrize(
    ("given", "met"),
    [
        (lambda z: z, "returned Tensor; "),
        (lambda z: torch.nn.Parameter(z), "returned Tensor; "),
        (lambda z: (z, z), "returned tuple; "),
        (lambda z: None, "returned None; "),
        (lambda z: {}, "returned a dict of nothing; "),
        (lambda z: {"embeddings": z, "map": z}, "returned a dict of 'embeddings', 'map'; "),
        (lambda z: {"embedding": [z]}, "returned list as view 'embedding'; "),
    ],
)
def test_views_are_a_dict_with_an_embedding(given, met):
    class Bad(Healthy):
        """Gives something else."""

        def forward(self, features):
            return given(features.vector)

    bad = Bad(SPEC)
    for look in (
        lambda: views_from(bad, as_features(toy_features())),
        lambda: views_of(bad, toy_features()),
    ):
        with pytest.raises(PluginError) as caught:
            look()
        assert met in str(caught.value)
        assert line_of(Bad.forward) in str(caught.value)
        assert "expected a dict of views with 'embedding'" in str(caught.value)


def test_a_network_reads_views_there_too():
    class Bad(Healthy):
        """Gives its tensor alone."""

        def forward(self, features):
            return features.vector

    network = Network(tiny(None), Bad(SPEC), "live")
    with pytest.raises(PluginError, match=r"Bad\.forward .* returned Tensor; expected a dict"):
        network(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    "cut",
    [lambda v: torch.tensor(v.item()), lambda v: v.detach(), lambda v: torch.zeros(())],
)
def test_a_loss_whose_gradient_is_cut_is_named_with_its_line(cut):
    class Bad(Healthy):
        """Cuts its gradient."""

        def loss(self, z, labels):
            return cut(super().loss(z, labels))

    bad = build(Bad)
    with pytest.raises(PluginError) as caught:
        losses_of(bad, views_of(bad, toy_features()), toy_batch())
    assert str(caught.value).startswith("term 'loss': ")
    assert line_of(Bad.loss) in str(caught.value)
    assert "returned a tensor without gradient" in str(caught.value)


def test_a_loss_beside_others_may_be_constant_and_none_needs_a_gradient_where_views_have_none():
    class Half(Healthy):
        """One of its two terms has nothing to compare yet."""

        def make_terms(self, spec):
            return [Term(self.loss), Term(lambda z, labels: torch.zeros(()), name="memory")]

    half = build(Half)
    assert set(losses_of(half, views_of(half, toy_features()), toy_batch())) == {"loss", "memory"}
    with torch.no_grad():
        assert losses_of(half, views_of(half, toy_features()), toy_batch())["memory"] == 0


@pytest.mark.parametrize(
    ("given", "met"),
    [
        (lambda value: value, "returned Tensor"),
        (lambda value: {"loss": 0.5}, "returned float as 'loss'"),
        (lambda value: None, "returned None"),
    ],
)
def test_losses_are_a_dict_of_tensors(given, met):
    class Bad(Healthy):
        """Answers for its losses itself."""

        def losses(self, views, batch):
            return given(views["embedding"].sum())

    bad = build(Bad)
    with pytest.raises(PluginError) as caught:
        losses_of(bad, views_of(bad, toy_features()), toy_batch())
    assert met in str(caught.value)
    assert line_of(Bad.losses) in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "met"),
    [
        ([np.arange(4)], "gave ndarray as a batch; expected Draw(positions, group)"),
        ([Draw([0, 4]), (1, 2)], "gave tuple as a batch; expected Draw(positions, group)"),
        (Draw([0, 4]), "returned Draw; expected batches"),
        (4, "returned int; expected batches"),
    ],
)
def test_a_plan_yields_draws(plan, met):
    class Bad(Healthy):
        """Lays out something else."""

        def plan(self, epoch, probe, rng):
            return plan

    with pytest.raises(PluginError) as caught:
        list(plan_of(Bad(SPEC), 0, None, np.random.default_rng(0)))
    assert met in str(caught.value)
    assert line_of(Bad.plan) in str(caught.value)


def test_a_plan_of_draws_is_given_as_it_is_one_by_one():
    asked = []

    class Lazy(Healthy):
        """Lays out two batches."""

        def plan(self, epoch, probe, rng):
            for number in range(2):
                asked.append(number)
                yield Draw([number, 4])

    plan = plan_of(Lazy(SPEC), 0, None, np.random.default_rng(0))
    assert asked == []
    assert next(plan).index == [0, 4]
    assert asked == [0]
    assert plan_of(Healthy(SPEC), 0, None, np.random.default_rng(0)) is None


class Forgetful(Healthy):
    """Forgets the call."""

    def __init__(self, spec, **settings):
        self.spec = spec


class Astray(Healthy):
    """Calls torch's in place of Method's."""

    def __init__(self, spec, **settings):
        torch.nn.Module.__init__(self)


@pytest.mark.parametrize("method", [Forgetful, Astray])
@pytest.mark.parametrize(
    "make",
    [
        lambda method: check_built(method(SPEC)),
        build,
        lambda method: Network(tiny(None), method(SPEC), "live"),
    ],
)
def test_what_methods_own_init_never_built_is_refused_by_name(method, make):
    with pytest.raises(PluginError) as caught:
        make(method)
    assert f"{method.__name__}.__init__ {line_of(method.__init__)}" in str(caught.value)
    assert "does not call super().__init__(spec, **settings)" in str(caught.value)


def test_what_it_built_is_let_be():
    check_built(Healthy(SPEC))
