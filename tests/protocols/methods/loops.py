"""What the tests of the methods share: a hand-made batch, random batches, losses as slow loops."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.method import Method, TrainSpec

# Four unit vectors at 0, 60, 90 and 180 degrees.
FIXTURE = torch.tensor([[1, 0], [0.5, math.sqrt(0.75)], [0, 1], [-1, 0]], dtype=torch.float64)
FIXTURE_LABELS = torch.tensor([0, 0, 1, 1])
# Four points on a line.
LINE = torch.tensor([[0.0], [1.0], [3.0], [5.0]])
LINE_LABELS = torch.tensor([0, 0, 1, 1])


@dataclass(frozen=True)
class Built:
    """A method whose terms, weighted and summed, can be called on embeddings and labels."""

    method: Method

    @property
    def terms(self):
        return self.method.terms

    @property
    def loss(self):
        """Return the loss of the only term."""
        (term,) = self.terms
        return term.loss

    def __call__(self, embeddings, labels):
        values = []
        for term in self.terms:
            mined = () if term.miner is None else (term.miner(embeddings.detach(), labels),)
            values.append(term.weight * term.loss(embeddings, labels, *mined))
        return sum(values)


def build(method, dtype=torch.float64, **settings):
    """Return the method in one precision, from a fixed torch seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Built(method(SPEC, **settings).to(dtype))


def gradient(loss, embeddings, labels):
    leaf = embeddings.clone().requires_grad_()
    loss(leaf, labels).backward()
    return leaf.grad


def random_batch(rng, classes=4, size=None, *, least=3, unit=False):
    """Return (B, D) float64 rows and labels; some classes are alone, some labels repeat a lot."""
    count = int(rng.integers(2, 11))
    size = int(rng.integers(least, 6)) if size is None else size
    z = torch.from_numpy(rng.normal(size=(count, size)))
    return (normalize(z) if unit else z), torch.from_numpy(rng.integers(0, classes, count))


def solved_batch():
    """Return two solved classes and an unsolved one."""
    z = torch.eye(6, dtype=torch.float64)[[0, 0, 1, 1, 2, 3]]
    z[5, 0] = 2.0  # nearer to the first class than to its twin
    return z, torch.arange(6) // 2


def weight_of(loss):
    """Return the (C, D) class vectors of a classification loss; (C * K, D) for SoftTriple."""
    loss = loss.loss if isinstance(loss, Built) else loss
    for name in ("proxies", "weight"):
        if hasattr(loss, name):
            return getattr(loss, name)
    return loss.W.T if hasattr(loss, "W") else loss.fc.T


def set_weight(loss, rows):
    with torch.no_grad():
        weight_of(loss).copy_(rows)


def paper_spec(channels, size, classes=98):
    labels = np.repeat(np.arange(classes), 2)
    return TrainSpec(
        labels, classes, channels, size, folds=4, batch_size=32, steps=100, steps_per_epoch=10
    )


def count(module):
    return sum(p.numel() for p in module.parameters())


def seeded(seed):
    return torch.default_generator.manual_seed(seed)


def pairs_of(labels):
    """Return ordered positive and negative pairs."""
    y = labels.tolist()
    every = [(i, j) for i, j in product(range(len(y)), repeat=2) if i != j]
    return [(i, j) for i, j in every if y[i] == y[j]], [(i, j) for i, j in every if y[i] != y[j]]


def triplets_of(labels):
    positive, negative = pairs_of(labels)
    return [(a, p, n) for a, p in positive for b, n in negative if a == b]


def others(labels):
    """Yield (anchor, positives, negatives) positions."""
    y = labels.tolist()
    for i in range(len(y)):
        rest = [j for j in range(len(y)) if j != i]
        yield i, [j for j in rest if y[j] == y[i]], [j for j in rest if y[j] != y[i]]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def dots(a, b):
    return [[math.fsum(x * y for x, y in zip(u, v, strict=True)) for v in b] for u in a]


def unit(z):
    return normalize(z).tolist()


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def cross_entropy(rows, labels):
    return mean(log_sum_exp(row) - row[y] for row, y in zip(rows, labels.tolist(), strict=True))


def logits_of(loss, z):
    """Return cosines (B, C) as lists."""
    return dots(unit(z), unit(weight_of(loss).detach()))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def cosines(z, w=None):
    z = normalize(z)
    return (z @ (z if w is None else normalize(w)).T).tolist()


def loop_distances(z):
    z = z.tolist()
    return [[math.dist(a, b) for b in z] for a in z]


def loop_mined(s, y, epsilon):
    """Return kept positive and negative pairs; None keeps all of them."""
    n = range(len(y))
    positives = {(i, j) for i in n for j in n if i != j and y[i] == y[j]}
    negatives = {(i, j) for i in n for j in n if y[i] != y[j]}
    if epsilon is None:
        return positives, negatives
    kept_positives, kept_negatives = set(), set()
    for i in n:
        mine = [s[i][j] for j in n if (i, j) in positives]
        theirs = [s[i][j] for j in n if (i, j) in negatives]
        if mine and theirs:
            kept_positives |= {
                (i, j) for j in n if (i, j) in positives and s[i][j] < max(theirs) + epsilon
            }
            kept_negatives |= {
                (i, j) for j in n if (i, j) in negatives and s[i][j] > min(mine) - epsilon
            }
    return kept_positives, kept_negatives


def loop_multi_similarity(z, labels, alpha, beta, base, epsilon=None):
    """Return the loss and its gradient with respect to the cosines."""
    unit, y = normalize(z), labels.tolist()
    s = (unit @ unit.T).tolist()
    positives, negatives = loop_mined(s, y, epsilon)
    total, slope = 0.0, np.zeros((len(y), len(y)))
    for i in range(len(y)):
        near = {j: math.exp(-alpha * (s[i][j] - base)) for a, j in positives if a == i}
        far = {j: math.exp(beta * (s[i][j] - base)) for a, j in negatives if a == i}
        total += math.log1p(sum(near.values())) / alpha + math.log1p(sum(far.values())) / beta
        for sign, terms in ((-1, near), (1, far)):
            for j, e in terms.items():
                slope[i, j] = sign * e / (1 + sum(terms.values())) / len(y)
    return total / len(y), slope


def loop_margin(z, labels, margin, beta):
    """``beta`` is one number or one for each class."""
    u = unit(z)
    values = []
    for a, p, n in triplets_of(labels):
        edge = beta[int(labels[a])] if isinstance(beta, list) else beta
        values += [
            max(0.0, math.dist(u[a], u[p]) - edge + margin),
            max(0.0, edge - math.dist(u[a], u[n]) + margin),
        ]
    return mean(v for v in values if v > 0)


def loop_ap(z, labels, ahead_of_positive, ahead_of_negative):
    """Return 1 - AP from how much a positive and a negative stand ahead, by their lead."""
    s, values = cosines(z), []
    for q, positive, negative in others(labels):
        if not positive:
            continue
        mine = [q, *positive]
        precisions = []
        for i in mine:
            in_class = 1 + math.fsum(ahead_of_positive(s[q][j] - s[q][i]) for j in mine if j != i)
            wrong = math.fsum(ahead_of_negative(s[q][j] - s[q][i]) for j in negative)
            precisions.append(in_class / (in_class + wrong))
        values.append(1 - mean(precisions))
    return mean(values)


def true_missed_ap(z, labels):
    """Return 1 - AP by sorting, the query on top of its list as its own positive."""
    s, y, values = np.array(cosines(z)), labels.numpy(), []
    for q in range(len(y)):
        hits = (y == y[q])[np.argsort(-s[q], kind="stable")]
        if hits.sum() > 1:
            values.append(1 - (np.cumsum(hits) / np.arange(1, len(y) + 1))[hits].mean())
    return mean(values)
