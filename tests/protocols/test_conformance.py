"""The conformance checks catch planted faults, and leave the process as they found it."""

import contextlib
import random
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances, losses
from torch import nn
from torch.nn.functional import dropout, normalize, relu

from protocols import conformance, dense, pretend_device, toy_task
from protocols.conformance import CHECKS, MethodConformance
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Draw, Method, ParameterGroup, Term, Wants
from protocols.methods.triplet_hard import TripletHard
from protocols.space import Choice, Real
from protocols.toy_task import ROWS, SPEC

BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}


def compact(z, labels, margin=0.5):
    """Return a healthy contrastive loss without own parameters, finite for any batch."""
    z = normalize(z)
    same = labels[:, None] == labels
    d = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
    return (same * d).mean() + (~same * relu(margin - d)).mean()


class Healthy(Method):
    """Keeps every rule."""

    margin = Real(0.1, 1.0, default=0.5)

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, z, labels):
        return compact(z, labels, self.margin)


# Each fault is one change of the healthy method; each names the check that must catch it.


class DeadSetting(Healthy):
    """A hyperparameter that nothing reads."""

    dead = Real(0.0, 1.0, default=0.5)


class NanWithoutPositives(Healthy):
    """Mean over positive pairs, also where there are none."""

    def loss(self, z, labels):
        same = (labels[:, None] == labels).fill_diagonal_(False)
        d = torch.cdist(normalize(z), normalize(z))
        return super().loss(z, labels) + d[same].mean()


class NanWithoutNegatives(Healthy):
    """Mean over negative pairs, also where there are none."""

    def loss(self, z, labels):
        d = torch.cdist(normalize(z), normalize(z))
        return super().loss(z, labels) - d[labels[:, None] != labels].mean()


class ReversedSign(Healthy):
    """Pushes its own class away."""

    def loss(self, z, labels):
        return -super().loss(z, labels)


class Detached(Healthy):
    """Loses the gradient to the features but not to its own parameter."""

    def make_terms(self, spec):
        self.scale = nn.Parameter(torch.ones(()))
        return [Term(self.loss)]

    def loss(self, z, labels):
        return self.scale * super().loss(z.detach(), labels)


class NeverLearns(Healthy):
    """Owns a parameter that the loss does not use."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.forgotten = nn.Parameter(torch.ones(3))
        return head


class ZeroGradient(Healthy):
    """Owns a parameter whose gradient is always 0."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.idle = nn.Parameter(torch.ones(()))
        return head

    def loss(self, z, labels):
        return super().loss(z, labels) + 0 * self.head.idle


class InPlaceFeatures(Healthy):
    """Centres its input in place."""

    def forward(self, features):
        with torch.no_grad():
            features.vector.sub_(features.vector.mean())
            features.map.mul_(0.5)
        return super().forward(features)


class InPlaceLabels(Healthy):
    """Renumbers the labels in place."""

    def loss(self, z, labels):
        value = super().loss(z, labels)
        labels.sub_(labels.min() - 1)
        return value


class InPlaceView(Healthy):
    """Doubles the embedding in place, which its second term is handed."""

    def make_terms(self, spec):
        return [Term(self.loss, name="first"), Term(self.doubled), Term(self.loss, name="last")]

    def doubled(self, z, labels):
        return compact(z.mul_(2), labels, self.margin)


class InPlaceViewWithoutTerms(Healthy):
    """Centres the embedding where its losses are added up."""

    def losses(self, views, batch):
        found = super().losses(views, batch)
        with torch.no_grad():
            views["embedding"].sub_(1.0)
        return found


class Reseeds(Healthy):
    """Seeds torch's generator in its loss."""

    def loss(self, z, labels):
        torch.manual_seed(0)
        return super().loss(z, labels)


class ReseedsAtTheStart(Healthy):
    """Seeds torch's generator where its head is made: all seeds start from one head."""

    def make_head(self, spec):
        torch.manual_seed(0)
        return super().make_head(spec)


class ReseedsNumpy(Healthy):
    """Seeds numpy's generator in its loss."""

    def loss(self, z, labels):
        np.random.seed(0)
        return super().loss(z, labels) * float(1 + np.random.random())


class Draws(Healthy):
    """Draws from torch's generator, and from one of its own: no fault."""

    def loss(self, z, labels):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fixed = torch.rand(())
        return super().loss(z, labels) * (1 + fixed + 0.1 * torch.rand(()))


class NumpyRandom(Healthy):
    """Draws from numpy's global generator."""

    def loss(self, z, labels):
        return super().loss(z, labels) * float(1 + np.random.random())


class PythonRandom(Healthy):
    """Draws from Python's global generator."""

    def loss(self, z, labels):
        return super().loss(z, labels) * (1 + random.random())


class FreshGenerator(Healthy):
    """Draws from a generator that nobody seeds."""

    def loss(self, z, labels):
        return super().loss(z, labels) * float(1 + np.random.default_rng().random())


class DefaultOutside(Healthy):
    """Its default was moved out of the range after it was declared."""

    form = Choice(("a", "b"), default="a")
    vars(form)["default"] = "c"


class BatchMates(Healthy):
    """Centres embeddings on the batch, in eval too."""

    def forward(self, features):
        z = self.head(features.vector)
        return {"embedding": z - z.mean(0)}


class LiveNorm(Healthy):
    """A BatchNorm without running statistics uses the batch's in eval."""

    def make_head(self, spec):
        norm = nn.BatchNorm1d(spec.channels, track_running_stats=False)
        return nn.Sequential(norm, nn.Linear(spec.channels, spec.embedding_size))


class DropoutInEval(Healthy):
    """Keeps dropping features in eval."""

    def forward(self, features):
        return {"embedding": self.head(dropout(features.vector, 0.5, training=True))}


class LeaksTrainView(Healthy):
    """Its embedding is made with a layer that belongs to a term, which training alone needs."""

    def make_terms(self, spec):
        term = Term(self.loss)
        term.extra = nn.Linear(spec.embedding_size, spec.embedding_size)
        return [term]

    def forward(self, features):
        z = self.head(features.vector)
        for term in self.terms:
            z = z + term.extra(z)
        return {"embedding": z}


class NoEmbedding(Healthy):
    """Gives its embedding in training only."""

    def forward(self, features):
        name = "embedding" if self.training else "vector"
        return {name: self.head(features.vector)}


class SharedParameter(Healthy):
    """Lists a parameter in two optimiser groups."""

    def groups(self):
        return [*super().groups(), ParameterGroup("again", [self.head.bias])]


class UngroupedParameter(Healthy):
    """Its groups leave a parameter out."""

    def groups(self):
        return [ParameterGroup("head", [self.head.weight])]


class FrozenInGroup(Healthy):
    """Groups a parameter that does not train."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.bias.requires_grad_(False)
        return head

    def groups(self):
        return [ParameterGroup("head", list(self.head.parameters()))]


class Overflow(Healthy):
    """exp without log-sum-exp: beyond float32 at one end of its range."""

    beta = Real(1.0, 200.0, default=2.0, log=True)

    def loss(self, z, labels):
        z = normalize(z)
        negative = labels[:, None] != labels
        far = (negative * (self.beta * (z @ z.T)).exp()).sum(1).log1p() / self.beta
        return super().loss(z, labels) + far.mean()


class ZeroVector(Healthy):
    """Divides by a length that can be 0."""

    def loss(self, z, labels):
        return super().loss(z, labels) + (z / z.norm(dim=1, keepdim=True)).var()

    def make_head(self, spec):
        return nn.Linear(spec.channels, spec.embedding_size, bias=False)


class PlanOutside(Healthy):
    """Draws the position after the last."""

    def plan(self, epoch, probe, rng):
        for _ in range(SPEC.steps_per_epoch):
            yield Draw([*rng.integers(0, ROWS, 8).tolist(), ROWS])


class PlanNegative(Healthy):
    """Draws from the end, as Python indexing allows."""

    def plan(self, epoch, probe, rng):
        return [Draw([-1, 0, 5, 9])] * SPEC.steps_per_epoch


class PlanOneClass(Healthy):
    """Draws batches of one class."""

    def plan(self, epoch, probe, rng):
        return [Draw([0, 1, 2, 3])] * SPEC.steps_per_epoch


class PlanTooShort(Healthy):
    """Runs out in its second epoch."""

    def plan(self, epoch, probe, rng):
        return [Draw([0, 1, 6, 7])] * (SPEC.steps_per_epoch - epoch)


class PlanEmptyBatch(Healthy):
    """Draws a batch without images."""

    def plan(self, epoch, probe, rng):
        return [Draw([])] * SPEC.steps_per_epoch


class PlanTooLarge(Healthy):
    """Draws every image in every batch."""

    def plan(self, epoch, probe, rng):
        return [Draw(range(ROWS))] * SPEC.steps_per_epoch


class PlanTooLargeAtACorner(Healthy):
    """Draws twice as much as it may under one setting alone."""

    wide = Choice([1, 2], default=1)

    def plan(self, epoch, probe, rng):
        size = self.wide * self.spec.batch_size
        return [Draw(np.arange(size) % ROWS)] * SPEC.steps_per_epoch


class LargeLiveNorm(Healthy):
    """A loss on two batches behind a layer whose statistics are of the batch."""

    wants = Wants(batches=2)

    def make_head(self, spec):
        return nn.Sequential(super().make_head(spec), nn.BatchNorm1d(spec.embedding_size))


class LargeDropout(Healthy):
    """A loss on two batches behind a layer that draws at random."""

    wants = Wants(batches=2)

    def make_head(self, spec):
        return nn.Sequential(super().make_head(spec), nn.Dropout(0.5))


class LargeMates(Healthy):
    """A loss on two batches whose views are centred by the batch."""

    wants = Wants(batches=2)

    def forward(self, features):
        views = super().forward(features)
        return {n: z - z.mean(0) for n, z in views.items()} if self.training else views


class LargeCut(Healthy):
    """Two batches; a loss that reads a parameter without the view that it made: no gradient."""

    wants = Wants(batches=2)

    def forward(self, features):
        self.kept = self.head(features.vector)
        return {"embedding": self.kept}

    def loss(self, z, labels):
        return super().loss(z, labels) + (self.kept**2).mean()


class ShadowedSetting(Healthy):
    """A module in the place of a hyperparameter, which torch does not refuse."""

    base = Real(0.1, 1.0, default=0.5)

    def make_terms(self, spec):
        self.base = Term(self.loss)
        return [self.base]


class LargeBatches(Healthy):
    """A loss on two batches, nothing in the way: no fault."""

    wants = Wants(batches=2, images_per_class=2)


class Probing(Healthy):
    """A linear probe that says so: no fault."""

    trunk = "frozen"

    def forward(self, features):
        return {"embedding": self.head(features.vector.detach())}


class SavedState(Healthy):
    """Counts its steps in a buffer: no fault."""

    def make_terms(self, spec):
        self.register_buffer("seen", torch.zeros(()))
        return super().make_terms(spec)

    def loss(self, z, labels):
        self.seen += 1
        return super().loss(z, labels) * (1 + 1 / self.seen.item())


class StepsInAttribute(Healthy):
    """Counts its steps in a plain attribute: no fault, as trainings never resume midway."""

    seen = 0

    def loss(self, z, labels):
        self.seen += 1
        return super().loss(z, labels) * (1 + 1 / self.seen)


class SlowCopy(Healthy):
    """A momentum that shows only after steps: no fault."""

    momentum = Real(0.5, 0.99, default=0.9)

    def make_terms(self, spec):
        self.slow = deepcopy(self.head).requires_grad_(False)
        return super().make_terms(spec)

    def forward(self, features):
        views = super().forward(features)
        return views | {"slow": self.slow(features.vector.detach())} if self.training else views

    def losses(self, views, batch):
        found = super().losses(views, batch)
        found["slow"] = (normalize(views["embedding"]) - normalize(views["slow"])).square().mean()
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.head.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)
        return found


class Memory(Method):
    """The library's memory around its contrastive loss: no fault."""

    share = Real(0.5, 1.0, default=1.0)

    def make_terms(self, spec):
        size = max(spec.batch_size, int(self.share * len(spec.labels)))
        loss = losses.ContrastiveLoss(
            distance=distances.CosineSimilarity(), pos_margin=1, neg_margin=0
        )
        return [Term(losses.CrossBatchMemory(loss, spec.embedding_size, memory_size=size))]


class LostCentre(Healthy):
    """Keeps a running centre, which eval subtracts, where no state dict holds it."""

    centre = 0.0

    def forward(self, features):
        z = self.head(features.vector)
        if self.training:
            self.centre = 0.5 * self.centre + 0.5 * z.detach().mean(0)
        return {"embedding": z - self.centre}


class GrowingState(Healthy):
    """Its buffer is longer at the end than when the best weights were kept."""

    def make_terms(self, spec):
        self.register_buffer("seen", torch.zeros(0))
        return super().make_terms(spec)

    def losses(self, views, batch):
        self.seen = torch.cat([self.seen, views["embedding"].detach()[:1, 0]])
        return super().losses(views, batch)


class HostMask(Healthy):
    """Makes a mask on the host."""

    def loss(self, z, labels):
        z, same = normalize(z), labels[:, None] == labels
        pairs = same & ~torch.eye(len(z), dtype=torch.bool)  # the mask
        return super().loss(z, labels) + (z @ z.T)[pairs].sum() * 0


class HostAttribute(Healthy):
    """Keeps a tensor that no ``.to()`` moves."""

    def make_terms(self, spec):
        self.weights = torch.ones(spec.embedding_size)
        return super().make_terms(spec)

    def loss(self, z, labels):
        return super().loss(z * self.weights, labels)


class HostPlan(Healthy):
    """Its head is centred on what it was shown before training, as numpy gives it."""

    def prepare(self, probe):
        self.centre = torch.from_numpy(probe("vector").mean(0))

    def forward(self, features):
        return {"embedding": self.head(features.vector - self.centre)}


class Waits(Healthy):
    """Asks the device for values and for shapes that depend on them: slower, but no fault."""

    def loss(self, z, labels):
        positive = (labels[:, None] == labels).nonzero()
        share = len(positive) / len(z) ** 2 + float(z.detach().mean() > 0)
        if labels.unique().numel() > 1 and labels.tolist()[0] >= 0 and (labels == 0).any():
            share += labels.cpu().numpy().mean()
        at = torch.tensor([0, 1], device=z.device)
        return super().loss(z, labels) * (1 + share) + 0 * z[torch.randperm(len(z))][at].sum()


class Vague(Healthy):
    __doc__ = None


class OddDraws(Healthy):
    """Wants batches of a kind that no sampler makes."""

    draws = "triplets"


class AcceptsAnything(Healthy):
    """Swallows unknown settings."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **{k: v for k, v in settings.items() if k == "margin"})


class VectorLoss(Healthy):
    """Returns a loss for each sample instead of one number."""

    def loss(self, z, labels):
        return compact(z, labels, self.margin).expand(len(z))


class VectorOfLosses(VectorLoss):
    """Does without terms."""

    def losses(self, views, batch):
        return {"own": self.loss(views["embedding"], batch.labels)}


class Taught(Healthy):
    """Stays near what a slow copy of it sees."""

    teacher = 0.9
    weight = Real(0.1, 2.0, default=1.0)

    def make_terms(self, spec):
        both = ("embedding", "teacher/embedding")
        return [*super().make_terms(spec), Term(self.near, on=both, name="near")]

    def near(self, z, taught, labels):
        return self.weight * (normalize(z) - normalize(taught)).square().mean()


class TaughtInVain(Taught):
    """Asks for a teacher and looks at its own view."""

    def near(self, z, taught, labels):
        return self.weight * (normalize(z) - normalize(z.detach())).square().sum()


class TaughtInPlace(Taught):
    """Normalises the teacher's view where it lies."""

    def near(self, z, taught, labels):
        return super().near(z, taught.div_(taught.norm(dim=1, keepdim=True)), labels)


class TaughtByItself(Taught):
    """Gives the view of a teacher itself."""

    def forward(self, features):
        views = super().forward(features)
        return views | {"teacher/embedding": views["embedding"].detach()}


class TaughtLive(Taught):
    """Normalises by the batch."""

    def make_head(self, spec):
        return nn.Sequential(super().make_head(spec), nn.BatchNorm1d(spec.embedding_size))


class TaughtTooFast(Taught):
    """Runs away from the network."""

    teacher = 1.5


class TaughtOther(Taught):
    """Looks at a view that there is not."""

    def make_terms(self, spec):
        return [Term(self.near, on=("embedding", "teacher/wide"))]


class Mixed(Healthy):
    """Weighs the loss of each image's own class and of its partner's."""

    wants = Wants(mix=0.5)
    shape = Real(0.5, 8.0, default=2.0, log=True)

    def mix_shape(self):
        return self.shape

    def losses(self, views, batch):
        z, labels = views["embedding"], batch.labels
        own, other = self.loss(z, labels), self.loss(z, labels[batch.partner])
        return {"loss": batch.share * own + (1 - batch.share) * other}


class MixedBlindly(Mixed):
    """Takes every mixture for an image of its own class."""

    def losses(self, views, batch):
        return {"loss": self.loss(views["embedding"], batch.labels)}


class MixedByLogs(Mixed):
    """Takes the logarithm of a share that can be 0."""

    def losses(self, views, batch):
        found = super().losses(views, batch)["loss"]
        return {"loss": found + batch.share.log()}


class MixedShapeless(Mixed):
    """Asks for a Beta distribution that there is not."""

    def mix_shape(self):
        return self.shape - 0.5


class OnSheet(Healthy):
    """Compares points of a hyperboloid."""

    ranking = "hyperboloid"

    def forward(self, features):
        flat = super().forward(features)["embedding"]
        return {"embedding": torch.cat([flat, (1 + flat.square().sum(1, True)).sqrt()], 1)}


class OnSheetFirst(OnSheet):
    """Puts the height first."""

    def forward(self, features):
        return {"embedding": super().forward(features)["embedding"].roll(1, 1)}


class OnBall(OnSheet):
    """Gives points of the ball."""

    def forward(self, features):
        point = super().forward(features)["embedding"]
        return {"embedding": point / (1 + point[:, -1:])}


class OnManySheets(OnSheet):
    """Another curvature for each image."""

    def forward(self, features):
        point = super().forward(features)["embedding"]
        return {"embedding": point * (1 + features.vector.mean(1, True))}


class OwnRanking(Healthy):
    """Compares by a rule that there is not."""

    ranking = "dot"


class TwoRankings(Healthy):
    """Says two rules."""

    ranking = "angle"
    normalize_embeddings = False


class Told(Healthy):
    """Pushes classes of other groups, and with other words, further apart."""

    wants = Wants(side=frozenset({"names", "groups"}))

    def make_terms(self, spec):
        first = sorted({name.split()[0] for name in spec.names})
        numbers = [first.index(name.split()[0]) for name in spec.names]
        self.register_buffer("word", torch.tensor(numbers))
        self.register_buffer("kind", torch.from_numpy(spec.groups))
        return [Term(self.loss)]

    def loss(self, z, labels):
        found = super().loss(z, labels)
        for finer in (self.word, self.kind):
            found = found + 0.1 * compact(z, finer[labels], self.margin)
        return found


class ToldInVain(Told):
    """Looks at groups alone."""

    def loss(self, z, labels):
        return compact(z, labels, self.margin) + 0.1 * compact(z, self.kind[labels], self.margin)


class ToldGroupsInVain(Told):
    """Looks at names alone."""

    def loss(self, z, labels):
        return compact(z, labels, self.margin) + 0.1 * compact(z, self.word[labels], self.margin)


FAULTS = [
    (DeadSetting, "every_setting_matters", "dead changes nothing"),
    (NanWithoutPositives, "degenerate_batches", "loss is nan"),
    (NanWithoutNegatives, "degenerate_batches", "loss is nan"),
    (ReversedSign, "pulls_classes_apart", "MAP@R went from"),
    (Detached, "learns_through_every_parameter", "detached from the features; say trunk = 'fro"),
    (NeverLearns, "learns_through_every_parameter", "head.forgotten never learns"),
    (ZeroGradient, "learns_through_every_parameter", "head.idle never learns"),
    (VectorLoss, "learns_through_every_parameter", r"VectorLoss\.loss \(.*\) returned a tensor of"),
    (VectorOfLosses, "learns_through_every_parameter", r"must be \(\) tensors"),
    (InPlaceFeatures, "leaves_inputs_alone", "input features in place"),
    (InPlaceLabels, "leaves_inputs_alone", "labels in place"),
    (InPlaceView, "leaves_inputs_alone", "^term 'loss' changed view 'embedding' in place"),
    (InPlaceViewWithoutTerms, "leaves_inputs_alone", r"^losses\(\) changed view 'embedding'"),
    (Reseeds, "leaves_generators_alone", "seeds torch's generator, with 0"),
    (ReseedsAtTheStart, "leaves_generators_alone", "seeds torch's generator, with 0"),
    (ReseedsNumpy, "leaves_generators_alone", "draws from numpy's global generator"),
    (PythonRandom, "leaves_generators_alone", "draws from Python's global generator"),
    (NumpyRandom, "repeats_under_a_seed", "the same torch seed gave"),
    (PythonRandom, "repeats_under_a_seed", "the same torch seed gave"),
    (FreshGenerator, "repeats_under_a_seed", "the same torch seed gave"),
    (DefaultOutside, "declares_itself", r"form='c': expected a \| b"),
    (Vague, "declares_itself", "docstring"),
    (OddDraws, "declares_itself", "draws='triplets'"),
    (AcceptsAnything, "refuses_unknown_settings", "accepted in silence"),
    (BatchMates, "eval_is_deterministic", "batch mates"),
    (LiveNorm, "eval_is_deterministic", "more than 1 value"),  # torch's own words
    (DropoutInEval, "eval_is_deterministic", "two eval passes differ"),
    (NoEmbedding, "eval_is_deterministic", "returned a dict of 'vector'; expected"),
    (LeaksTrainView, "deploys_without_terms", "embedding changes"),
    (SharedParameter, "groups_cover_parameters_once", "two optimiser groups"),
    (UngroupedParameter, "groups_cover_parameters_once", "no optimiser group holds head.bias"),
    (FrozenInGroup, "groups_cover_parameters_once", "frozen parameter"),
    (Overflow, "finite_at_every_corner", "'beta': 200.0"),
    (ZeroVector, "finite_at_every_corner", "for zero at"),
    (PlanOutside, "plan_stays_inside", "outside the training images"),
    (PlanNegative, "plan_stays_inside", "negative position"),
    (PlanOneClass, "plan_stays_inside", "one-class batch"),
    (PlanTooShort, "plan_stays_inside", "epoch 1: only 9 batches"),
    (PlanEmptyBatch, "plan_stays_inside", "empty batch"),
    (PlanTooLarge, "plan_stays_inside", "epoch 0: a batch of 32 images where .* is 16"),
    (PlanTooLargeAtACorner, "plan_stays_inside", r"'wide': 2.*: a batch of 32 images"),
    (LargeLiveNorm, "parts_are_the_whole", "changes head.1.running_mean, as live BatchNorm"),
    (LargeDropout, "parts_are_the_whole", "draws at random, as dropout"),
    (LargeMates, "parts_are_the_whole", "depends on the other images of the batch"),
    (TaughtInVain, "imitates_its_teacher", "no loss reads a view teacher/"),
    (TaughtInPlace, "imitates_its_teacher", "a loss writes to view 'teacher/embedding'"),
    (TaughtByItself, "imitates_its_teacher", "its forward gives view 'teacher/embedding'"),
    (TaughtLive, "imitates_its_teacher", "method.head.1 is live"),
    (TaughtTooFast, "imitates_its_teacher", "teacher = 1.5, expected a momentum from 0 to 1"),
    (TaughtOther, "imitates_its_teacher", "needs view 'teacher/wide'; there are: .*teacher/emb"),
    (MixedBlindly, "knows_what_is_mixed", "does not look at batch.partner and batch.share"),
    (MixedByLogs, "knows_what_is_mixed", "loss is -?inf at share 0"),
    (MixedShapeless, "knows_what_is_mixed", r"mix_shape\(\) gives 0.0, expected a number above 0"),
    (OnSheetFirst, "ranks_by_a_rule", "x0"),
    (OnBall, "ranks_by_a_rule", "x0"),
    (OnManySheets, "ranks_by_a_rule", "an embedding is a point of one hyperboloid"),
    (OwnRanking, "ranks_by_a_rule", "ranking = 'dot', expected angle, distance, hyperboloid"),
    (TwoRankings, "ranks_by_a_rule", "say ranking alone"),
    (ToldInVain, "uses_what_it_is_told", "the names of classes and they change nothing"),
    (ToldGroupsInVain, "uses_what_it_is_told", "the groups of classes and they change nothing"),
    (LargeCut, "parts_are_the_whole", "in parts is .* of its length away|other parameters"),
    (ShadowedSetting, "declares_itself", "ShadowedSetting: 'base' is a hyperparameter, met self"),
    (LostCentre, "best_weights_return", "not that of its state dict"),
    (GrowingState, "best_weights_return", "size mismatch for seen"),  # torch's own words
    (HostMask, "runs_on_another_device", r"test_conformance\.py:\d+: `pairs = .*`: .*32 x 32 bool"),
    (HostAttribute, "runs_on_another_device", r"\(12 float32\).*device=z\.device"),
    (HostPlan, "runs_on_another_device", r"\(16 float32\).*keep it as a buffer"),
]


@pytest.mark.parametrize(
    ("fault", "check", "words"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
def test_planted_fault_is_caught_by_the_check_meant_for_it(fault, check, words):
    refused = (AssertionError, InvalidInputError, PluginError, ValueError, RuntimeError)
    with pytest.raises(refused, match=words):
        BY_NAME[check](fault)


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize(
    "method",
    [
        Healthy,
        SavedState,
        StepsInAttribute,
        SlowCopy,
        Memory,
        Waits,
        Draws,
        LargeBatches,
        Probing,
        Taught,
        Mixed,
        OnSheet,
        Told,
    ],
)
def test_healthy_method_keeps_every_rule(method, check):
    check(method)


def test_every_check_is_proven_by_a_fault():
    assert {check for _, check, _ in FAULTS} == set(BY_NAME)


def test_default_outside_its_range_fails_where_it_is_written():
    with pytest.raises(InvalidInputError, match=r"default 3.0 lies outside its bounds \[0.0, 1.0"):

        class Wrong(Healthy):
            """Never comes to be."""

            margin = Real(0.0, 1.0, default=3.0)


# The process is left as it was.


def random_states():
    numpy = [np.asarray(part).tolist() for part in np.random.get_state()]
    return random.getstate(), numpy, torch.get_rng_state().tolist()


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize("method", [TripletHard, NumpyRandom, PythonRandom, DropoutInEval])
def test_checks_leave_global_random_state_alone(check, method):
    before = random_states()
    with contextlib.suppress(AssertionError):  # a fault that is found must not leak either
        check(method)
    assert random_states() == before


def test_a_method_that_writes_to_its_labels_does_not_spoil_the_next_check():
    for name in ("leaves_inputs_alone", "degenerate_batches", "pulls_classes_apart"):
        with contextlib.suppress(AssertionError):
            BY_NAME[name](InPlaceLabels)
    assert SPEC.labels.tolist() == sorted(list(range(8)) * 4)
    assert toy_task.toy_labels().tolist() == SPEC.labels.tolist()


@pytest.mark.parametrize("name", ["pulls_classes_apart", "learns_through_every_parameter"])
def test_verdict_does_not_depend_on_global_random_state(name, monkeypatch):
    """The same numbers are met from any state of the generators."""
    met = []
    original = toy_task.loss_of

    def recorded(*args):
        value = original(*args)
        met.append(value.item())
        return value

    for module in (conformance, toy_task):
        monkeypatch.setattr(module, "loss_of", recorded)
    for _ in range(2):
        torch.rand(7)
        np.random.random(3)
        BY_NAME[name](Healthy)
    half = len(met) // 2
    assert half >= 1
    assert met[:half] == met[half:]


def test_checks_keep_their_names_and_claims():
    for check in CHECKS:
        assert check.__name__.startswith("check_")
        assert check.__doc__
        assert getattr(conformance, check.__name__) is check


def test_healthy_corners_are_the_product_of_the_axes():
    class Two(Healthy):
        """Two axes."""

        form = Choice(("a", "b", "c"), default="a")

    assert len(toy_task.corners(Two)) == 2 * 3
    assert {"margin": 0.1, "form": "c"} in toy_task.corners(Two)


def test_toy_features_are_fresh_non_negative_and_always_the_same():
    first = toy_task.toy_features()
    assert first.min() >= 0
    assert torch.equal(first, toy_task.toy_features())
    first.zero_()
    assert toy_task.toy_features().abs().sum() > 0


# As a pytest class, the way a plugin's own test file uses it.


class TestHealthy(MethodConformance):
    method = Healthy


PLUGIN_TESTS = """
from protocols.conformance import MethodConformance
from tests.protocols.test_conformance import Healthy, ReversedSign


class TestGood(MethodConformance):
    method = Healthy


class TestBad(MethodConformance):
    method = ReversedSign
"""


class Outcomes:
    """A pytest plugin that writes down what ran."""

    def __init__(self):
        self.met = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.met[report.nodeid.split("::", 1)[1]] = report.outcome


def test_a_plugins_own_test_file_runs_every_check_by_name(tmp_path, capsys):
    path = tmp_path / "test_plugin.py"
    path.write_text(PLUGIN_TESTS)
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\n")
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", str(config)]
    code = pytest.main([*options, str(path)], plugins=[outcomes])
    printed = capsys.readouterr().out
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    expected = {f"{cls}::test_{name}" for cls in ("TestGood", "TestBad") for name in BY_NAME}
    assert set(outcomes.met) == expected
    failed = {name for name, outcome in outcomes.met.items() if outcome != "passed"}
    assert failed == {"TestBad::test_pulls_classes_apart"}
    assert "MAP@R went from" in printed


def test_conformance_tests_tell_their_claim():
    for name, check in BY_NAME.items():
        assert getattr(MethodConformance, f"test_{name}").__doc__ == check.__doc__


# The pretended device.

SHIPPED = [name for name in Registry().names("method") if Registry().load("method", name).trains]


@pytest.mark.parametrize("name", SHIPPED)
def test_pretended_device_computes_the_same_bits(name, monkeypatch):
    """So what the check sees there is what a method does, not what a double made of it."""
    # Losses have another form off the CPU; here both sides take that one.
    monkeypatch.setattr(dense, "on_host", lambda tensor: False)
    method, labels = Registry().load("method", name), toy_task.toy_labels()
    here, there = toy_task.build(method), toy_task.build(method)
    pretend_device.move(there)
    for step in (0, 99):
        batch = replace(toy_task.toy_batch(), step=step, epoch=step // 10)
        images = toy_task.toy_features().requires_grad_()
        torch.manual_seed(1)
        total = toy_task.loss_of(here, images, batch)
        total.backward()
        on_device = pretend_device.to_device(toy_task.toy_features()).requires_grad_()
        labels = pretend_device.to_device(batch.labels)
        moved = replace(batch, labels=labels, index=pretend_device.to_device(batch.index))
        with pretend_device.pretended():
            torch.manual_seed(1)
            same = toy_task.loss_of(there, on_device, moved)
            same.backward()
        assert same.device.type == "meta"
        assert torch.equal(same.detach().held, total.detach())
        assert torch.equal(on_device.grad.held, images.grad)


LEGAL = {
    "factory": lambda z, y: torch.eye(len(z), device=z.device) @ z,
    "data": lambda z, y: torch.tensor([1.0, 2, 3, 4], device=z.device) * z,
    "numpy data": lambda z, y: torch.as_tensor(np.ones(6), device=z.device) * y,
    "new tensor": lambda z, y: z.new_tensor([1.0, 2, 3, 4]) * z,
    "new zeros": lambda z, y: z.new_zeros(6, 4) + torch.rand_like(z),
    "to": lambda z, y: torch.ones(6, 4).to(z) + torch.ones(6, 4).to(z.device) * z,
    "number of the host": lambda z, y: torch.tensor(2.0) * z,
    "positions of the host": lambda z, y: z[torch.randperm(6)] + z[[0]],
    "lists and arrays": lambda z, y: (
        z[[0, 2], [1, 1]] + z[np.array([1, 2]), None, 3] + z[[True] * 6][0, 0]
    ),
    "assigned": lambda z, y: _assigned(z, y),
    "where": lambda z, y: torch.where(z > 0, z, 0.5) + torch.where(z < 0, 1.0, torch.tensor(2.0)),
    "full": lambda z, y: torch.full((6, 4), 2.0, device=z.device) * z.new_full((6, 4), 3),
    "mask of the host": lambda z, y: z[torch.ones(6, dtype=torch.bool)],
    "written in place": lambda z, y: (y[:, None] == y).fill_diagonal_(False).float() @ z,
    "scatter": lambda z, y: torch.zeros(6, 3, device=z.device).scatter_(1, y[:, None], 1.0),
    "with device": lambda z, y: _inside(z),
}
ILLEGAL = {
    "factory": lambda z, y: torch.eye(len(z)) @ z,
    "noise": lambda z, y: z + torch.randn(6, 4),
    "arange": lambda z, y: y == torch.arange(6),
    "scatter": lambda z, y: torch.zeros(6, 3).scatter_(1, y[:, None], 1.0),
    "read by position": lambda z, y: torch.ones(6, 4)[y],
    "cat": lambda z, y: torch.cat([z, torch.ones(1, 4)]),
    "numpy": lambda z, y: z.numpy(),
    "asarray": lambda z, y: np.asarray(z),
    "generator": lambda z, y: torch.rand(3, device=z.device, generator=torch.Generator()),
}


def _assigned(z, y):
    z = z.clone()
    z[0] = 2.0
    z[[1, 2]] = 3.0
    z[y == 2, 1] = torch.tensor(5.0)
    z[3] = torch.arange(4.0, device=z.device)
    return z


def _inside(z):
    with torch.device(z.device):
        return torch.eye(len(z)) @ z


@pytest.mark.parametrize("case", LEGAL.values(), ids=LEGAL)
def test_pretended_device_takes_what_a_gpu_takes(case):
    z, y = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    with pretend_device.pretended():
        torch.manual_seed(1)
        there = case(pretend_device.to_device(z), pretend_device.to_device(y))
    torch.manual_seed(1)
    assert torch.equal(there.held, case(z, y))


@pytest.mark.parametrize("case", ILLEGAL.values(), ids=ILLEGAL)
def test_pretended_device_refuses_what_a_gpu_refuses(case):
    z, y = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    case(z, y)
    with (
        pretend_device.pretended(),
        pytest.raises(pretend_device.HostTensorError, match=r"host|cpu"),
    ):
        case(pretend_device.to_device(z), pretend_device.to_device(y))


def test_moving_keeps_parameters_the_same_objects():
    built = toy_task.build(Healthy)
    held = list(built.parameters())
    pretend_device.move(built)
    assert [a is b for a, b in zip(held, built.parameters(), strict=True)] == [True, True]
    assert {p.device.type for p in held} == {"meta"}
