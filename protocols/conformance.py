"""What every method must keep, as plain checks and as a pytest class.

``python -m benchmark check NAME_OR_FILE`` runs the checks and prints one line each. A plugin's
own test file subclasses :class:`MethodConformance`::

    class TestMine(MethodConformance):
        method = Mine
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from protocols import pretend_device
from protocols.conformance_batches import check_parts_are_the_whole, check_plan_stays_inside
from protocols.conformance_leaves import (
    check_leaves_generators_alone,
    check_leaves_inputs_alone,
)
from protocols.conformance_mixing import check_knows_what_is_mixed
from protocols.conformance_ranking import check_ranks_by_a_rule
from protocols.conformance_side import check_uses_what_it_is_told
from protocols.conformance_teacher import check_imitates_its_teacher
from protocols.contract import check_built
from protocols.errors import BenchmarkError
from protocols.method import Method
from protocols.reached import reached
from protocols.space import declared, defaults
from protocols.toy_task import (
    ROWS,
    SETTLING,
    SPEC,
    Check,
    as_features,
    build,
    corners,
    embed,
    fingerprint,
    keeps_random_state,
    loss_of,
    spec_for,
    toy_batches,
    toy_features,
    toy_labels,
    toy_map_at_r,
    train,
    use_on_device,
    views_of,
)

__all__ = ["CHECKS", "ROWS", "SPEC", "MethodConformance", "as_features"]

_FEATURES = "the features"


@keeps_random_state
def check_declares_itself(method: type[Method]) -> None:
    """It has a docstring, known draws, defaults inside its space, and it can be built."""
    assert method.__doc__, "the class needs a docstring: its first line is shown in lists"
    assert method.draws in ("pairs", "classes"), f"draws={method.draws!r}: 'pairs' or 'classes'"
    assert method.trunk in ("trained", "frozen"), f"trunk={method.trunk!r}: 'trained' or 'frozen'"
    for name, parameter in declared(method).items():
        assert parameter.accept(parameter.default) == parameter.default, f"default of {name}"
    build(method)


@keeps_random_state
def check_refuses_unknown_settings(method: type[Method]) -> None:
    """An unknown hyperparameter is refused by name."""
    refusal = ""
    try:
        method(spec_for(method), no_such_hyperparameter=1.0)
    except BenchmarkError as error:
        refusal = str(error)
    assert refusal, "an unknown hyperparameter was accepted in silence"
    assert "no_such_hyperparameter" in refusal, f"the refusal must name it, met: {refusal}"


@keeps_random_state
def check_learns_through_every_parameter(method: type[Method]) -> None:
    """The loss is a finite scalar with a gradient to the features and every own parameter."""
    if not method.trains:
        return
    steps, gradients = _gradients(build(method))
    of_features = gradients.pop(_FEATURES)
    if method.trunk == "trained":
        frozen = "; say trunk = 'frozen' if only the head is to learn"
        assert of_features, f"the loss is detached from the features{frozen}"
        assert any(of_features), f"the loss sends no gradient to the features{frozen}"
    later = "; if it learns from a later step on, say in phases() from which"
    for parameter, sizes in gradients.items():
        assert sizes, f"{parameter} never learns: it gets no gradient at {steps}{later}"
        assert any(sizes), f"{parameter} never learns: its gradient is 0 at {steps}{later}"


def _gradients(built: Method) -> tuple[str, dict[str, list[float]]]:
    """Return the steps looked at, in words, and how large each gradient is that is met there.

    The features and each trainable parameter have a list, empty if they never get a gradient:
    what learns in one phase alone does learn.
    """
    own = {f"parameter {name}": p for name, p in built.named_parameters() if p.requires_grad}
    met: dict[str, list[float]] = {name: [] for name in (_FEATURES, *own)}
    batches = toy_batches(built)
    for where, batch in batches:
        features = toy_features().requires_grad_()
        built.zero_grad()
        total = loss_of(built, features, batch)
        assert total.shape == (), f"losses must be () tensors, met {tuple(total.shape)}{where}"
        assert math.isfinite(total.item()), f"loss is {total.item()} on an ordinary batch{where}"
        total.backward()  # type: ignore[no-untyped-call]
        for name, leaf in {_FEATURES: features, **own}.items():
            if leaf.grad is not None:
                assert leaf.grad.isfinite().all(), f"the gradient of {name} is not finite{where}"
                met[name].append(leaf.grad.abs().sum().item())
    numbers = ", ".join(str(batch.step) for _, batch in batches)
    return f"step{'s' * (len(batches) > 1)} {numbers}", met


@keeps_random_state
def check_groups_cover_parameters_once(method: type[Method]) -> None:
    """Every trainable parameter is in exactly one group; frozen ones are in none."""
    built = build(method)
    grouped = [id(p) for group in built.groups() for p in group.parameters]
    trainable = {id(p): name for name, p in built.named_parameters() if p.requires_grad}
    missing = [name for key, name in trainable.items() if key not in grouped]
    assert not missing, f"no optimiser group holds {', '.join(missing)}"
    assert len(grouped) == len(set(grouped)), "a parameter is in two optimiser groups"
    assert set(grouped) <= set(trainable), "an optimiser group holds a frozen parameter"


@keeps_random_state
def check_degenerate_batches(method: type[Method]) -> None:
    """One class only, and all classes different: finite loss and gradient."""
    if not method.trains:
        return
    for labels in (torch.zeros(8, dtype=torch.int64), torch.arange(8)):
        _finite(build(method), toy_features()[:8], labels, f"labels {labels.tolist()}")


@keeps_random_state
def check_finite_at_every_corner(method: type[Method]) -> None:
    """Finite at all extremes of the space, on ordinary, collapsed, zero and huge features."""
    if not method.trains:
        return
    ordinary = toy_features()
    inputs = {
        "ordinary": ordinary,
        "collapsed": ordinary[:1].expand_as(ordinary).clone(),
        "zero": torch.zeros_like(ordinary),
        "huge": ordinary * 1e4,
    }
    for settings in corners(method):
        for name, features in inputs.items():
            _finite(build(method, settings), features, toy_labels(), f"{name} at {settings}")


@keeps_random_state
def check_repeats_under_a_seed(method: type[Method]) -> None:
    """The same torch seed gives the same loss, and what does not train draws nothing at all."""
    if not method.trains:
        one, other = (embed(build(method, seed=number)) for number in (0, 1))
        assert torch.equal(one, other), (
            "it does not train and another torch seed gives another embedding: on a trunk with "
            "weights it has one run, so what it draws must come from a generator of its own"
        )
        return
    values = []
    for other_seed in (1, 2):
        np.random.seed(other_seed)  # a method that reads it must be caught
        random.seed(other_seed)
        built = build(method)
        torch.default_generator.manual_seed(3)
        batches = toy_batches(built)
        values.append([(loss_of(built, toy_features(), b).item(), where) for where, b in batches])
    for (first, where), (second, _) in zip(*values, strict=True):
        assert first == second, f"the same torch seed gave {first} and {second}{where}"


@keeps_random_state
def check_every_setting_matters(method: type[Method]) -> None:
    """Each hyperparameter changes a loss, rate, plan or embedding, within a few steps."""
    space = declared(method)
    bases = [defaults(space), *corners(method)]
    for name, parameter in space.items():
        if len(parameter.corners()) == 1:  # fixed, and stated so that it is recorded
            continue
        alive = any(
            fingerprint(method, {**base, name: value})
            != fingerprint(method, {**base, name: parameter.default})
            for base in bases
            for value in parameter.corners()
            if value != parameter.default
        )
        assert alive, (
            f"hyperparameter {name} changes nothing in {SETTLING} steps on {ROWS} images: remove "
            "it or use it. A size or a delay should be a share of what TrainSpec says"
        )


@keeps_random_state
def check_eval_is_deterministic(method: type[Method]) -> None:
    """Eval gives ``embedding`` of the asked width, the same twice, whatever lies in the batch."""
    built, features = build(method).eval(), toy_features()
    with torch.no_grad():
        whole = views_of(built, features)
        again = views_of(built, features)["embedding"]
        alone = torch.cat([views_of(built, row[None])["embedding"] for row in features])
    embedding = whole["embedding"]
    assert embedding.ndim == 2, f"the embedding must be (B, D), met {tuple(embedding.shape)}"
    width = SPEC.embedding_size + (built.ranked_by == "hyperboloid")
    assert embedding.shape[1] == width or not method.trains, (
        f"an embedding of {embedding.shape[1]} numbers where spec.embedding_size asks for {width}: "
        "a wider one scores higher by itself"
    )
    assert torch.equal(embedding, again), "two eval passes differ"
    assert torch.allclose(embedding, alone, atol=1e-4), "an embedding depends on its batch mates"


@keeps_random_state
def check_deploys_without_terms(method: type[Method]) -> None:
    """Without its terms and other training-only parts the embedding is bit for bit the same."""
    built = build(method).eval()
    bare = deepcopy(built)
    bare.terms = torch.nn.ModuleList()
    with torch.no_grad():
        full = views_of(built, toy_features())["embedding"]
        kept = views_of(bare, toy_features())["embedding"]
    assert torch.equal(full, kept), "the embedding changes when the loss terms are removed"
    deployed = reached(built, lambda: views_of(built, toy_features())["embedding"])
    with torch.no_grad():
        for parameter in set(built.parameters()) - set(deployed):
            parameter.fill_(torch.nan)
        kept = views_of(built, toy_features())["embedding"]
    assert torch.equal(full, kept), "the embedding depends on a parameter that is cut off from it"


@keeps_random_state
def check_best_weights_return(method: type[Method]) -> None:
    """Weights kept at a step give that step's embedding again after more steps were taken."""
    if not method.trains:
        return
    built = build(method)
    train(built, SETTLING)
    kept = {name: value.detach().clone() for name, value in built.state_dict().items()}
    then = embed(built)
    train(built, SETTLING)
    built.load_state_dict(kept)  # what a training does at its end, with its best weights
    assert torch.equal(embed(built), then), (
        "the embedding of a step is not that of its state dict: keep what eval needs in "
        "parameters and buffers"
    )


@keeps_random_state
def check_runs_on_another_device(method: type[Method]) -> None:
    """Tensors are made on the device of the input: on a GPU those of the host are refused."""
    torch.default_generator.manual_seed(0)
    built = method(spec_for(method))
    check_built(built)
    built.train()
    try:
        with pretend_device.pretended():
            use_on_device(built)
    except pretend_device.HostTensorError as error:
        raise AssertionError(
            f"{pretend_device.blame(error)} {error}. On a GPU this fails: make the tensor there, "
            "device=z.device for a z that came in, or keep it as a buffer"
        ) from error


@keeps_random_state
def check_pulls_classes_apart(method: type[Method]) -> None:
    """A hundred steps raise MAP@R on toy classes that overlap at the start."""
    if not method.trains:
        return
    built = build(method)
    before = toy_map_at_r(built)
    train(built, steps=SPEC.steps)
    after = toy_map_at_r(built)
    assert after > before + 0.05, f"MAP@R went from {before:.3f} to {after:.3f} in 100 steps"


CHECKS: tuple[Check, ...] = (
    check_declares_itself,
    check_refuses_unknown_settings,
    check_learns_through_every_parameter,
    check_groups_cover_parameters_once,
    check_degenerate_batches,
    check_finite_at_every_corner,
    check_repeats_under_a_seed,
    check_leaves_inputs_alone,
    check_leaves_generators_alone,
    check_every_setting_matters,
    check_eval_is_deterministic,
    check_deploys_without_terms,
    check_plan_stays_inside,
    check_parts_are_the_whole,
    check_imitates_its_teacher,
    check_knows_what_is_mixed,
    check_ranks_by_a_rule,
    check_uses_what_it_is_told,
    check_best_weights_return,
    check_runs_on_another_device,
    check_pulls_classes_apart,
)


class MethodConformance:
    """Subclass with ``method = YourMethod``; pytest then runs every check on it."""

    method: type[Method]


def _as_test(check: Check) -> Callable[[MethodConformance], None]:
    def test(self: MethodConformance) -> None:
        check(self.method)

    test.__doc__ = check.__doc__
    return test


for _check in CHECKS:
    setattr(MethodConformance, _check.__name__.replace("check_", "test_"), _as_test(_check))


def _finite(built: Method, feature_map: Tensor, labels: Tensor, what: str) -> None:
    for step, batch in toy_batches(built, labels):
        where = f"{what}{step}"
        features = feature_map.clone().requires_grad_()
        built.zero_grad()
        total = loss_of(built, features, batch)
        assert math.isfinite(total.item()), f"loss is {total.item()} for {where}"
        total.backward()  # type: ignore[no-untyped-call]
        grads = [features.grad, *(p.grad for p in built.parameters())]
        assert all(g is None or g.isfinite().all() for g in grads), f"NaN gradient for {where}"
