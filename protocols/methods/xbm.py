"""XBM: a contrastive loss on the batch and on a memory of embeddings of earlier batches."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from protocols import dense
from protocols.method import Batch, Method, Term, TrainSpec
from protocols.methods._distances import distances
from protocols.phases import Phase, first_step
from protocols.space import Choice, Real, Settings

NEAREST = 1e-4  # distance below which KoLeo is flat: its slope is 1 / distance


class CrossBatchMemory(Method):
    """Cosine contrastive loss against the batch and against the newest embeddings before it.

    A memory of m rows holds detached unit embeddings and their classes, first in, first out.
    With s the cosine of a pair, P(batch, rows) is the mean over the batch of::

        sum over positives in rows of (1 - s)  +  sum over negatives in rows of [s - margin]+

    and the loss is P(batch, batch without self) + weight * P(batch, memory) + koleo * KoLeo.
    These are sums over the memory, not means: a large memory weighs more. From ``start`` on each
    batch is compared first and remembered afterwards, so no embedding meets itself. An image does
    meet the older embeddings of itself that are still remembered, and they count as positives.

    Paper, section 3, and its released code: margin 0.5, weight 1, start at 1,000 of 35,000 steps,
    for SOP a memory of 55,000 of its 59,551 images, batches of 16 classes of 4. KoLeo, -ln of the
    distance to the nearest neighbour, is an option (El-Nouby et al. 2021 train retrieval
    transformers so, at 0.7) and is not searched.

    It presumes a slow, pretrained trunk, whose old embeddings still hold. Trained from scratch on
    ``emoji`` a memory of all images collapsed and one of 5 % learned; ``memory`` is searched down
    to 1 %.

    Where the released code differs: it remembers the batch first and compares it with the memory
    afterwards, leaving out pairs of equal embeddings, so the batch's own pairs count twice and the
    first step has a memory. It knows a full memory by its last label not being class 0, so a last
    row of class 0 hides all rows behind the pointer; at its end it overwrites the batch before and
    keeps the oldest rows; its width is 128 whatever the embedding's. It adds s for a violating
    negative where the paper has s - margin: another value, the same gradient.
    """

    paper = "Wang et al., CVPR 2020, arXiv:1912.06798"
    margin = Real(0.0, 1.0, default=0.5)
    memory = Real(0.01, 1.0, default=1.0, log=True)  # m, a share of the training images
    weight = Choice((1.0, 0.5), default=1.0)
    start = Real(0.0, 0.5, default=0.03)  # share of the budget after which it is used
    koleo = Choice((0.0, 0.7), default=0.0, searched=False)

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__(spec, **settings)
        count = max(spec.batch_size, round(self.memory * len(spec.labels)))
        self.rows: Tensor
        self.classes: Tensor
        self.pointer: Tensor
        self.register_buffer("rows", torch.zeros(count, spec.embedding_size))
        self.register_buffer("classes", torch.full((count,), -1))  # -1: nothing there yet
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @classmethod
    def phases(cls, settings: Settings, steps: int, steps_per_epoch: int) -> Sequence[Phase]:
        """Return where the memory begins to be used."""
        return (Phase("memory", first_step(float(settings["start"]), steps)),)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the batch's term and the memory's, and KoLeo's if it is asked for."""
        found = [
            Term(self.against_batch),
            Term(self.against_memory, name="memory", weight=self.weight),
        ]
        return [*found, Term(spread, name="koleo", weight=self.koleo)] if self.koleo else found

    def graph_key(self, batch: Batch) -> Hashable:
        """Return whether the memory is used."""
        return batch.step >= first_step(self.start, self.spec.steps)

    def losses(self, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the terms; the memory's is 0 until ``start``, when the first batch enters it."""
        found = super().losses(views, batch)
        if self.graph_key(batch):
            self.remember(views["embedding"].float(), batch.labels)
        return found

    def against_batch(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return P of (B, D) embeddings among themselves, a () tensor."""
        z = normalize(embeddings)
        return self._pairs(z @ z.T, *dense.pairs(labels))

    def against_memory(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return P of (B, D) embeddings and the memory, a () tensor; 0 if that is empty."""
        # A copy, because the gradient needs the rows as they are before this batch enters.
        s = normalize(embeddings) @ self.rows.clone().T.to(embeddings.dtype)  # (B, m)
        same = labels[:, None] == self.classes
        return self._pairs(s, same, ~same & (self.classes >= 0))

    def _pairs(self, s: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        pull, push = (1 - s) * positive, relu(s - self.margin) * negative
        return (pull.sum(1) + push.sum(1)).mean()

    @torch.no_grad()
    def remember(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put (B, D) embeddings, of any length, detached, in the places of the oldest rows."""
        # Only the newest rows of a batch larger than the memory would stay anyway.
        z, labels = normalize(embeddings)[-len(self.rows) :], labels[-len(self.rows) :]
        at = (self.pointer + torch.arange(len(z), device=z.device)) % len(self.rows)
        self.rows.index_copy_(0, at, z.to(self.rows.dtype))
        self.classes.index_copy_(0, at, labels)
        self.pointer.copy_((self.pointer + len(z)) % len(self.rows))


def spread(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over (B, D) rows of -ln of the distance to the nearest other one.

    Source: Sablayrolles et al., ICLR 2019, arXiv:1806.03198, on unit embeddings.
    """
    del labels
    z = normalize(embeddings)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    nearest = distances(z).masked_fill(own, torch.inf).amin(1)  # (B,)
    # Alone in its batch a row has nothing to be near to.
    return -nearest.clamp(NEAREST, 2.0).log().mean() if len(z) > 1 else embeddings.sum() * 0.0
