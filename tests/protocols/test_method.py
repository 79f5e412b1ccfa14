"""The method contract's own functions."""

import torch

from protocols.conformance import SPEC, as_features, toy_features
from protocols.method import Method, Term
from protocols.reached import reached


class Raw(Method):
    """A method with a parameter that its embedding does not need."""

    def make_terms(self, spec):
        return [Term(torch.nn.Linear(spec.embedding_size, 1))]


def test_deployed_parameters_are_those_that_the_embedding_depends_on():
    method = Raw(SPEC).eval()
    method.head.weight.requires_grad_(False)
    found = reached(method, lambda: method(as_features(toy_features()))["embedding"])
    assert {id(p) for p in found} == {id(p) for p in method.head.parameters()}
    assert not method.head.weight.requires_grad, "frozen ones stay frozen"
