"""SupCon as published: its loss looks at a projection that retrieval drops."""

from collections.abc import Sequence

from torch import Tensor, nn

from protocols.method import Features, ParameterGroup, Term, TrainSpec
from protocols.methods.supcon import SupCon
from protocols.space import Choice


class SupConProjected(SupCon):
    """SupCon on a two-layer projection of the embedding, in training only.

    The projection is linear, ReLU, linear: D -> width * D -> D. The loss compares unit
    projections as ``supcon`` compares embeddings; what is ranked is the embedding before it.

    Paper, section 3.1 (encoder and projection) and equation 2 (the loss). There the encoder gives
    2048 numbers, the hidden layer is as wide and the projection has 128; here the encoder is
    trunk and head, and its output has the protocol's size like every method's. A temperature of
    0.07 and a hidden layer as wide as its input (width 1) are the released code's. Its two crops
    of each image are not part of the loss: see CONTRIBUTING.
    """

    paper = "Khosla et al., NeurIPS 2020, arXiv:2004.11362, with its projector"
    width = Choice((1, 4), default=1)  # of the hidden layer, in embedding sizes

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__(spec, **settings)  # first: the head starts as without a projector
        size = spec.embedding_size
        self.projector = nn.Sequential(
            nn.Linear(size, self.width * size), nn.ReLU(), nn.Linear(self.width * size, size)
        )

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return SupCon's term, on the projection."""
        (term,) = super().make_terms(spec)
        return [Term(term.loss, on="projected", name=term.name)]

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return ``embedding`` (B, D) and, in training, its projection ``projected`` (B, D)."""
        views = super().forward(features)
        return (
            {**views, "projected": self.projector(views["embedding"])} if self.training else views
        )

    def groups(self) -> list[ParameterGroup]:
        """Return the head's group and the projector's."""
        return [*super().groups(), ParameterGroup("projector", list(self.projector.parameters()))]
