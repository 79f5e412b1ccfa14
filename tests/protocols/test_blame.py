"""Messages lead to the line that its author can mend, not to the one that stumbled over it."""

import functools
import inspect

import pytest
import torch

from protocols import blame
from protocols.discovery import Registry
from protocols.errors import PluginError
from protocols.method import Method, Term
from protocols.toy_task import SPEC

LABELS = torch.arange(4)
VIEWS = {"embedding": torch.ones(4, 2)}


def forgetful(z, labels):
    (z.sum() + labels.sum()).square()


def line_of(function):
    return f"test_blame.py:{inspect.getsourcelines(function)[1]}"


class Callable:
    def __call__(self, z, labels):
        return [1.0]


@pytest.mark.parametrize(
    ("loss", "met"),
    [
        (forgetful, f"forgetful ({line_of(forgetful)}) returned NoneType"),
        (functools.partial(forgetful), f"forgetful ({line_of(forgetful)}) returned NoneType"),
        (lambda z, labels: 0.5, ") returned float"),
        (lambda z, labels: z.sum(1), ") returned a tensor of shape (4,)"),
        (lambda z, labels: z.sum()[None], ") returned a tensor of shape (1,)"),
        (Callable(), "Callable returned list"),
    ],
)
def test_a_loss_that_gives_no_number_is_named_with_its_line(loss, met):
    with pytest.raises(PluginError) as caught:
        Term(loss, name="mine")(VIEWS, LABELS)
    assert str(caught.value).startswith("term 'mine': ")
    assert met in str(caught.value)
    assert "expected a tensor of shape ()" in str(caught.value)


def test_a_term_gives_weight_times_its_loss():
    value = Term(lambda z, labels: z.sum(), weight=0.25)(VIEWS, LABELS)
    assert value.item() == 0.25 * 8


@pytest.mark.parametrize(
    ("made", "met"),
    [
        (None, "gave None; expected a list of terms"),
        (Term(forgetful), "gave Term; expected a list of terms"),
        ([forgetful], "gave function forgetful in its list"),
        ({"loss": Term(forgetful)}, "gave str in its list"),
    ],
)
def test_what_make_terms_gives_is_looked_at_where_it_is_read(made, met):
    class Mine(Method):
        """Gives something."""

        def make_terms(self, spec):
            return made

    with pytest.raises(PluginError) as caught:
        Mine(SPEC)
    assert met in str(caught.value)
    assert line_of(Mine.make_terms) in str(caught.value)


PLUGIN = '''"""A method."""
import torch
from protocols.method import Method, Term
from protocols.space import Real

def head(size):
    return torch.nn.Linear(size, "twelve")

class Mine(Method):
    """Mine."""

    {setting}

    def make_head(self, spec):
        return head(spec.channels)
'''


def test_the_line_told_is_the_innermost_of_the_plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(setting=""))
    with pytest.raises(TypeError) as caught:
        Registry((path,)).load("method", "mine")(SPEC)
    assert blame.raised(caught.value) == "mine.py:7"
    assert blame.explained(caught.value).endswith(" (mine.py:7)")


def test_a_file_that_does_not_import_is_told_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(setting="margin = Real(1.0, 0.0, default=0.5)"))
    with pytest.raises(PluginError, match=r"bounds \[1.0, 0.0\].*\(mine\.py:12\)"):
        Registry((path,)).load("method", "mine")


def test_methods_of_other_packages_are_known_by_their_class():
    class Mine(Method):
        """Mine."""

        def make_terms(self, spec):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        Mine(SPEC)
    assert blame.raised(caught.value) == ""
    place = blame.raised(caught.value, blame.modules_of(Method))
    line = inspect.getsourcelines(Mine.make_terms)[1] + 1
    assert place == f"test_blame.py:{line}"
