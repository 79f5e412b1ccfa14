"""The method contract: trunk features -> named views -> weighted terms -> next epoch's batches.

A method is one file in ``protocols/methods/`` (or a plugin) with one :class:`Method` subclass.
Most methods only override :meth:`Method.make_terms`. A method never sees the optimiser, the
schedule, the validation classes or the test classes: those belong to the runner.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.blame import called, written
from protocols.errors import PluginError
from protocols.phases import Phase
from protocols.ranking import RANKINGS, Ranking
from protocols.searched import search_space
from protocols.space import Hyperparameter, Settings, Space, declared, resolve
from protocols.terms import Loss, ParameterGroup, Term

__all__ = [
    "SIDE",
    "Batch",
    "Draw",
    "Features",
    "Loss",
    "Method",
    "ParameterGroup",
    "Probe",
    "Term",
    "TrainSpec",
    "Wants",
]

# What a method may ask to know of its training classes beside their images and labels.
SIDE = frozenset({"names", "groups"})


class Features(NamedTuple):
    """What a trunk gives for a batch of images."""

    map: Tensor  # (B, C, H, W) last feature map
    vector: Tensor  # (B, C) the trunk's own pooled descriptor
    stages: tuple[Tensor, ...] = ()  # as many maps as ``Wants.stages``, from early to the last


@dataclass(frozen=True)
class Batch:
    """What one training step hands to the method, next to the views."""

    labels: Tensor  # (B,) int64, 0-based among the fold's training classes
    index: Tensor  # (B,) int64, positions in the fold's training images
    group: int | None  # learner id that the plan gave this batch
    step: int  # 0-based, in batches of the protocol: the last of those that this step costs
    epoch: int  # 0-based; an epoch is the protocol's steps_per_epoch
    # Of images that the runner mixed: row i shows share of itself and 1 - share of row partner[i].
    partner: Tensor | None = None  # (B,) int64, positions in the batch; i where it stays itself
    share: Tensor | None = None  # () float32, one for the batch


@dataclass(frozen=True)
class Draw:
    """One batch of a plan: positions in the fold's training images, and a learner id."""

    index: Sequence[int] | NDArray[np.int64]
    group: int | None = None


@dataclass(frozen=True)
class TrainSpec:
    """All a method may know of the data and the budget: the fold's training part only."""

    labels: NDArray[np.int64]  # (N,) 0-based among the fold's training classes
    classes: int
    channels: int  # of the trunk's features
    embedding_size: int
    folds: int  # so many models of a run are joined into the concatenated embedding
    batch_size: int  # the most images that one loss may see: ``wants.batches`` times the protocol's
    steps: int  # the longest a training may last, in batches of the protocol
    steps_per_epoch: int  # likewise
    images_per_class: int = 4  # in a batch of the kind the method draws
    stage_channels: tuple[int, ...] = ()  # of ``Features.stages``; the last is ``channels``
    # Of the fold's training classes alone, by label, and only where ``wants.side`` asks for it.
    names: tuple[str, ...] | None = None
    groups: NDArray[np.int64] | None = None  # (classes,) 0-based number of each one's coarser class


@dataclass(frozen=True)
class Wants:
    """What a method needs of trunk and batches; the runner provides it or refuses by name.

    A loss on several of the protocol's batches costs as many of its steps, so every method trains
    on the same images. Trunk and head then see one protocol batch at a time, twice: without
    gradient for the loss, then to send its gradients back. That is exact only where a row of a
    view does not depend on the other rows, so live BatchNorm and dropout are refused.

    Raises:
        PluginError: numbers out of range, mixed images in a loss on several batches, or side
            information that there is not.
    """

    last_stride: int | None = None  # stride of the trunk's last stage
    map: bool = False  # a spatial map larger than 1 x 1
    nonnegative: bool = False  # a map that ends in a ReLU
    images_per_class: int | None = None  # in a batch; None for what ``draws`` means
    batches: int = 1  # batches of the protocol that one loss sees
    mix: float = 0.0  # part of a batch's images that are mixed with others of it; True for all
    stages: int = 0  # maps of the trunk's last stages, the last map included
    side: frozenset[str] = frozenset()  # of SIDE: what it is told of classes beside their images

    def __post_init__(self) -> None:
        if type(self.stages) is not int or self.stages < 0:
            raise PluginError(f"Wants(stages={self.stages!r}): expected a whole number from 0 on")
        for name, count in (("images_per_class", self.images_per_class), ("batches", self.batches)):
            if count is not None and (type(count) is not int or count < 1):
                raise PluginError(f"Wants({name}={count!r}): expected a whole number from 1 on")
        if not isinstance(self.mix, (int, float)) or not 0 <= self.mix <= 1:
            raise PluginError(f"Wants(mix={self.mix!r}): expected a part of the batch, from 0 to 1")
        if self.mix and self.batches > 1:
            raise PluginError(
                f"Wants(mix={self.mix!r}, batches={self.batches}): a loss on several batches sees "
                "them one at a time, and partners come from the whole; keep one of the two"
            )
        if not isinstance(self.side, frozenset) or not self.side <= SIDE:
            raise PluginError(
                f"Wants(side={self.side!r}): expected frozenset of {' and '.join(sorted(SIDE))}"
            )


Probe = Callable[[str], NDArray[np.float32]]
"""``probe(view)`` -> (N, d): the fold's training images in index order, seen in eval mode with
the eval pipeline; ``"vector"`` is the trunk's pooled feature, other names are eval views."""


class Method(nn.Module):
    """Head, loss terms, batch plan and search space: the thing a benchmark compares.

    Class attributes:
        paper: where the method was published.
        paper_name: its name in :mod:`protocols.paper`, for the Reality Check's own methods; on
            the paper's datasets they are searched within the paper's bounds.
        published: settings its authors used on a dataset, by the dataset's name; where there
            are some, the search there begins with them in place of the defaults.
        draws: ``pairs`` (several images of each class in a batch) or ``classes`` (as many
            classes as fit); the protocol says how many images of a class that means.
        trains: False for a reference row that is evaluated as it is.
        trunk: ``frozen`` for a method that trains its head alone: the runner keeps the trunk as it
            was loaded, in eval mode.
        teacher: momentum of a second network that follows this one, None for no such network; an
            instance may set it from a setting, until it is built. While training, each view NAME
            has beside it ``teacher/NAME`` of the same crops, without gradient. It is neither
            validated nor tested nor kept, and its forward passes are counted.
        joined: the eval view whose copies of all folds make the concatenated embedding.
        drawn: what :meth:`noise` gave for the step at hand, on a GPU; otherwise empty.
        ranking: how embeddings are compared: by ``angle``, by the Euclidean ``distance`` of the
            raw vectors, or as points of a ``hyperboloid``, see :mod:`protocols.ranking`; None for
            what ``normalize_embeddings`` says. An instance may set it from a setting.
        normalize_embeddings: True for ``angle``, False for ``distance``; likewise.
    """

    paper: ClassVar[str] = ""
    paper_name: ClassVar[str] = ""
    published: ClassVar[Mapping[str, Settings]] = MappingProxyType({})
    draws: ClassVar[Literal["pairs", "classes"]] = "pairs"
    trains: ClassVar[bool] = True
    trunk: ClassVar[Literal["trained", "frozen"]] = "trained"
    wants: ClassVar[Wants] = Wants()
    joined: ClassVar[str] = "embedding"
    teacher: float | None = None
    ranking: Ranking | None = None
    normalize_embeddings: bool = True
    drawn: tuple[Tensor, ...] = ()

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__()
        self.settings: Settings = resolve(declared(type(self)), settings)
        self.spec = spec
        self.head = self.make_head(spec)
        self.terms = nn.ModuleList(self._made_terms(spec))
        names = [term.name for term in self._terms()]
        if len(set(names)) < len(names):  # losses() answers by name: one would hide the other
            raise PluginError(f"{type(self).__name__}: terms named {names}, expected distinct")

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse an attribute in a hyperparameter's place, and a part that nobody could reach."""
        if isinstance(getattr(type(self), name, None), Hyperparameter):
            raise PluginError(
                f"{type(self).__name__}: {name!r} is a hyperparameter, met self.{name} = a "
                f"{type(value).__name__}, which would hide it; give one of them another name"
            )
        if isinstance(value, nn.Module) and hasattr(type(self), name):
            raise PluginError(
                f"{type(self).__name__}: {name!r} is a word of the class, met self.{name} = a "
                f"{type(value).__name__}, which it would hide; give the part another name"
            )
        super().__setattr__(name, value)

    @classmethod
    def space(cls, dataset: str, bounds: Literal["wide", "narrow"] = "wide") -> Space:
        """Return what the search may vary on ``dataset``.

        That is all that is declared, except for the Reality Check's methods on its datasets:
        those have the paper's bounds, see :func:`protocols.paper.search_space`. An option that is
        not searched stands there with its default alone, so that it is recorded.
        """
        published = cls.published.get(dataset, {})
        return search_space(declared(cls), cls.paper_name, published, dataset, bounds)

    @classmethod
    def phases(cls, settings: Settings, steps: int, steps_per_epoch: int) -> Sequence[Phase]:
        """Return what must have begun before a training under ``settings`` may stop early.

        A method whose loss or batches change on the way says here at which step. Patience counts
        from the last of these phases on, and a study is refused whose budget ends before it.

        Args:
            settings: a full setting of this method.
            steps: the longest a training may last.
            steps_per_epoch: of the protocol.
        """
        del settings, steps, steps_per_epoch
        return ()

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return the head; the default is one linear embedding layer with bias."""
        return nn.Linear(spec.channels, spec.embedding_size)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the weighted losses whose sum is minimised."""
        raise NotImplementedError(f"{type(self).__name__} must say its terms in make_terms()")

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return named views; ``embedding`` (B, D), not normalised, is always among them.

        In eval mode, views that only training needs are absent.
        """
        return {"embedding": self.head(features.vector)}

    def prepare(self, probe: Probe) -> None:
        """Fit what is fitted once, from training-fold features only; called before training.

        A method that does not train gets this call too. The default fits nothing.
        """
        del probe

    def losses(self, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return each term's () value by name; the runner minimises their sum."""
        return {term.name: term(views, batch.labels) for term in self._terms()}

    def graph_key(self, batch: Batch) -> Hashable:
        """Return what, besides tensors, the losses of ``batch`` depend on; None for nothing.

        On a GPU a training step is recorded once and played back; what Python decided then stays
        decided. So a method that looks at ``batch.step``, ``epoch`` or ``group`` says here what
        it makes of them: a step is recorded once for each answer, so there should be few.
        """
        del batch
        return None

    def noise(self, rows: int) -> tuple[Tensor, ...]:
        """Return what a training step on ``rows`` images draws at random on the CPU.

        On a GPU this is called before each step, and the method finds the tensors, on its
        device, in :attr:`drawn` in place of drawing; else ``drawn`` is empty and it draws itself.
        The shapes are the same every time.
        """
        del rows
        return ()

    def groups(self) -> list[ParameterGroup]:
        """Return every trainable parameter of the method in exactly one group."""
        head = [p for p in self.head.parameters() if p.requires_grad]
        found = [ParameterGroup("head", head)] if head else []
        return found + [group for term in self._terms() if (group := term.group())]

    def mix_shape(self) -> float:
        """Return a, where images are mixed by a share from Beta(a, a); a setting may be asked."""
        return 1.0

    def plan(
        self, epoch: int, probe: Probe, rng: np.random.Generator
    ) -> Iterator[Draw] | Iterable[Draw] | None:
        """Return the batches of ``epoch``, at least steps_per_epoch / ``wants.batches`` of them.

        Each has at most ``spec.batch_size`` images; a larger one ends the training by name. None,
        the default, leaves the batches to the protocol's sampler.
        """
        del epoch, probe, rng
        return None

    @property
    def ranked_by(self) -> Ranking:
        """Return the rule by which embeddings are compared.

        Raises:
            PluginError: a rule that there is not, or one that the older flag contradicts.
        """
        said: Ranking = "angle" if self.normalize_embeddings else "distance"
        found = said if self.ranking is None else self.ranking
        if found not in RANKINGS:
            raise PluginError(
                f"{type(self).__name__}: ranking = {found!r}, expected {', '.join(RANKINGS)}"
            )
        if said == "distance" and found != said:
            raise PluginError(
                f"{type(self).__name__}: ranking = {found!r} and normalize_embeddings = False, "
                "which means 'distance': say ranking alone"
            )
        return found

    def _made_terms(self, spec: TrainSpec) -> list[Term]:
        """Return what :meth:`make_terms` gives.

        Raises:
            PluginError: it is no list of terms.
        """
        made: object = self.make_terms(spec)
        where = f"{written(type(self).make_terms)} gave"
        if isinstance(made, Term) or not isinstance(made, Iterable):
            raise PluginError(
                f"{where} {called(made)}; expected a list of terms: return [Term(...)]"
            )
        terms = list(made)
        for term in terms:
            if not isinstance(term, Term):
                raise PluginError(
                    f"{where} {called(term)} in its list; expected terms: [Term(loss)]"
                )
        return terms

    def _terms(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]
