"""Under bf16 a network's views have eight bits; losses and gradients stay finite at every end."""

import pytest
import torch

from protocols.discovery import load
from protocols.space import declared, defaults
from protocols.toy_task import as_features, build, toy_batch, toy_features

LATER = (
    *("antico", "ccl", "contextual", "hier", "hist", "hyp", "metrix", "pfml", "proxy_an", "s2sd"),
    *("siglip", "supcon_proj", "tcm", "xbm"),
)


def ends(method):
    """Yield the defaults, and them with each setting at each end of its range."""
    space = declared(method)
    yield defaults(space)
    for name, parameter in space.items():
        for value in parameter.corners():
            yield {**defaults(space), name: value}


@pytest.mark.parametrize("name", LATER)
def test_losses_of_a_bf16_network_are_finite_and_so_are_gradients(name):
    method, ordinary = load("method", name), toy_features()
    inputs = {
        "ordinary": ordinary,
        "collapsed": ordinary[:1].expand_as(ordinary).clone(),
        "zero": torch.zeros_like(ordinary),
        "huge": ordinary * 1e4,
    }
    for settings in ends(method):
        built = build(method, settings)
        for what, feature_map in inputs.items():
            leaf = feature_map.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                views = built(as_features(leaf))
            assert views["embedding"].dtype == torch.bfloat16
            values = built.losses(views, toy_batch())
            for term, value in values.items():
                assert value.dtype == torch.float32, f"{term} is computed in {value.dtype}"
                assert value.isfinite(), f"{term} is {value.item()}: {what} at {settings}"
            built.zero_grad()
            torch.stack(list(values.values())).sum().backward()
            found = [leaf.grad, *(p.grad for p in built.parameters())]
            finite = all(g is None or g.isfinite().all() for g in found)
            assert finite, f"a gradient is not finite: {what} at {settings}"
