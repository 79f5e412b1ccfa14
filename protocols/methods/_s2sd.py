"""S2SD: a loss on wider embeddings, whose similarities the embedding learns to imitate."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import kl_div, normalize

from protocols.errors import PluginError
from protocols.method import Batch, Features, Method, ParameterGroup, Term, TrainSpec
from protocols.phases import Phase, first_step
from protocols.space import Choice, Real, Settings

WIDTHS = (4, 8, 12, 16)  # of the branches, in embedding sizes


class SelfDistilled(Method):
    """Distillation from wider branches; name this class first among the bases of a method.

    A branch t_k is linear, ReLU, linear on the map's average plus its maximum, 4, 8, 12 and 16
    times as wide as the embedding z. With L the base method's loss and S cosines of the batch::

        (L(z) + mean of L(t_k)) / 2 + distil * mean over k of KL(S of t_k, S of z)

    KL is that of the rows' softmax over all B images at ``distil_temperature``, times its square,
    mean over rows; the first of both teaches and has no gradient. From ``delay`` on the pooled
    features teach too, with the same weight (a tenth of it in the authors' runs on SOP). A loss
    with parameters has its own on every branch. The embedding stays as it was, and in eval mode
    there are no branches.
    """

    paper = "Roth et al., ICML 2021, arXiv:2009.08348"
    paper_name = ""  # the Reality Check has no such row, whatever the loss
    distil = Real(0.5, 500.0, default=50.0, log=True)  # weight of what imitates
    distil_temperature = Real(0.1, 10.0, default=1.0, log=True)
    delay = Choice((0.13,), default=0.13)  # share of the budget before the features teach

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        owners = [base for base in cls.__mro__ if "losses" in vars(base)]
        if owners != [SelfDistilled, Method]:
            raise PluginError(
                f"{cls.__name__}: branches repeat the terms of a method, and this one computes "
                "losses() itself; S2SD serves methods that only state terms"
            )

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__(spec, **settings)  # first: head and terms start as without branches
        self.branches = nn.ModuleList(
            _branch(spec.channels, width * spec.embedding_size) for width in WIDTHS
        )
        for term in self._terms():
            term.weight = term.weight / 2
        weight = self.distil / len(WIDTHS)
        for number, width in enumerate(WIDTHS):
            view = f"branch{number}"
            wide = replace(spec, embedding_size=width * spec.embedding_size)
            self.terms.extend(self._repeated(view, wide))
            on, name = ("embedding", view), f"{view}/distil"
            self.terms.append(Term(self.imitation, on=on, name=name, weight=weight))
        on = ("embedding", "pooled")
        self.terms.append(Term(self.imitation, on=on, name="features", weight=self.distil))

    def _repeated(self, view: str, spec: TrainSpec) -> list[Term]:
        """Return the base method's terms of the embedding, on a branch."""
        found = [term for term in self.make_terms(spec) if "embedding" in term.on]
        for term in found:
            term.on = tuple(view if name == "embedding" else name for name in term.on)
            term.name = f"{view}/{term.name}"
            term.weight = term.weight / 2 / len(WIDTHS)
        return found

    @classmethod
    def phases(cls, settings: Settings, steps: int, steps_per_epoch: int) -> Sequence[Phase]:
        """Return the base method's phases and where the features begin to teach."""
        own = Phase("features", first_step(float(settings["delay"]), steps))
        return (*super().phases(settings, steps, steps_per_epoch), own)

    def graph_key(self, batch: Batch) -> Hashable:
        """Return whether the features teach, and what the base method depends on."""
        return self._features_teach(batch), super().graph_key(batch)

    def losses(self, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the terms; that of the features is 0 until ``delay``."""
        found = super().losses(views, batch)
        if not self._features_teach(batch):
            found["features"] = found["features"] * 0.0
        return found

    def _features_teach(self, batch: Batch) -> bool:
        return batch.step >= first_step(self.delay, self.spec.steps)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the method's views and, in training, ``pooled`` (B, C) and the branches."""
        views = super().forward(features)
        if not self.training:
            return views
        pooled = features.map.mean(dim=(2, 3)) + features.map.amax(dim=(2, 3))
        wide = {f"branch{k}": branch(pooled) for k, branch in enumerate(self.branches)}
        return {**views, "pooled": pooled, **wide}

    def groups(self) -> list[ParameterGroup]:
        """Return the method's groups, and one of the branches' parameters."""
        return [*super().groups(), ParameterGroup("branches", list(self.branches.parameters()))]

    def imitation(self, embeddings: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the () divergence of a batch's similarities from its teacher's.

        Args:
            embeddings: (B, D), of any length.
            teacher: (B, W) rows that are not taught.
            labels: of no matter.
        """
        del labels
        z, t = normalize(embeddings), normalize(teacher.detach())
        heat = self.distil_temperature
        own, wanted = (z @ z.T / heat).log_softmax(1), (t @ t.T / heat).log_softmax(1)
        return kl_div(own, wanted, reduction="batchmean", log_target=True) * heat**2


def _branch(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width))
