"""Steps on a device: all inputs at fixed places, no wait, and where it is proven a recorded step.

The first steps of a training are ordinary ones. Then a step is rehearsed, recorded and played
beside two ordinary steps from the same state; only a recording that gives the same is used. The
random draws of the host keep their order, so a training sees the same batches, boxes and noise
however its steps are taken.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.training import pictures
from benchmark.training.device import layout
from benchmark.training.evaluate import autocast
from benchmark.training.feed import Feed
from benchmark.training.gradients import Gradients
from benchmark.training.graphs import Compute, CudaRecorder, Recorder, State, obstacle
from benchmark.training.steps import (
    Parts,
    Training,
    backward,
    batch_of,
    give_moments,
    moments,
    move,
    size_of,
    with_gradient,
)
from protocols.method import Batch, Draw
from protocols.mixing import mixed, mixing_of
from protocols.network import Network
from protocols.optimizer import groups_under, make_optimizer, rate_of

WARM = 3  # ordinary steps before a kind of step is recorded
PROOFS = 2  # steps of each kind that are taken both recorded and ordinary, to compare them
MOST = 10  # recordings of one training; further kinds of steps stay ordinary ones
# largest difference between them, relative to the step, where equal bits are not asked for
ALIKE = 1e-3


@dataclass
class Recording:
    """A recorded kind of step and how often it must still prove itself."""

    replay: Compute
    feed: Feed
    proofs: int = PROOFS


class DeviceSteps:
    """Steps on one device.

    Args:
        training: what they share.
        recorder: None for steps that are never recorded.
    """

    def __init__(self, training: Training, recorder: Recorder | None) -> None:
        self._training, self._recorder = training, recorder
        self._device = next(training.network.parameters()).device
        groups = groups_under(training.recipe, training.network)
        self._optimizer = make_optimizer(training.recipe, groups, self._device)
        self._rates = [rate_of(group, training.recipe) for group in groups]
        self._labels = torch.from_numpy(training.labels).to(self._device)
        image = training.protocol.image
        self._pictures = pictures.on_device(training.train, image, self._device)
        self._mixing = mixing_of(training.network.method)
        self._sums: dict[str, Tensor] = {}
        self._feeds: dict[int, Feed] = {}  # of ordinary steps, by batch size
        self._taken: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, Recording] = {}
        self._learnt: set[int] = set()
        self._parts, self._gradients = Parts(training), Gradients(training.recipe, training.network)
        self._why = self._parts.why or ("" if recorder else "recording is off")

    @property
    def how(self) -> str:
        """Return ``graph``, or ``eager: `` and why."""
        if self._why:
            return f"eager: {self._why}"
        proven = any(made.proofs == 0 for made in self._recordings.values())
        return "graph" if proven else "eager: too few steps"

    @property
    def learnt(self) -> int:
        """Return how many parameters have had a gradient."""
        return size_of(self._optimizer, self._learnt)

    def take(self, draw: Draw, step: int, factor: float) -> None:
        """Take one step; recorded where its kind was proven."""
        batch = batch_of(self._training, draw, step)
        if self._parts.several:
            self._in_parts(draw, batch, factor)
            return
        host = self._host_inputs(draw, factor)
        moving = not self._gradients.head_alone(step)
        key = (len(draw.index), self._training.network.method.graph_key(batch), moving)
        made = self._recordings.get(key)
        if made is None and self._may_record(key):
            made = self._record(key, batch, host)
        if made is None:
            self._eager(host, batch)
        elif made.proofs:
            self._prove(made, batch, host)
        else:
            self._fill(made.feed, host)
            made.replay()
        self._taken[key] = self._taken.get(key, 0) + 1

    def means(self, count: int) -> dict[str, float]:
        """Return each loss term's mean over the last ``count`` steps; waits for them once."""
        if not self._sums:
            return {}
        totals = torch.stack(list(self._sums.values())).tolist()
        for total in self._sums.values():
            total.zero_()
        return {n: t / count for n, t in zip(self._sums, totals, strict=True)}

    def images(self, draw: Draw) -> Tensor:
        """Return augmented images (B, 3, S, S) of a draw."""
        feed = self._feed_of(host := self._host_inputs(draw, 1.0))
        feed.fill(host)
        return self._crops(feed)

    def state(self) -> dict[str, Any]:
        """Return moments, sums and which parameters have had a gradient; waits for them."""
        learnt = sorted(self._learnt)
        return {"moments": moments(self._optimizer), "sums": self._sums, "learnt": learnt}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from them; recordings are made and proven anew."""
        give_moments(self._optimizer, state["moments"])
        self._sums = {k: v.to(self._device) for k, v in state["sums"].items()}
        self._learnt = set(state["learnt"])

    # Inputs: one tensor of whole numbers, the boxes' pixels where they travel, partners and share
    # where images are mixed, then the noise.

    def _host_inputs(self, draw: Draw, factor: float) -> list[Tensor]:
        """Draw boxes and flips, and return what a step needs from the host."""
        index = np.asarray(draw.index, np.int64)
        boxes, flips = self._pictures.draw(index, self._training.augment)
        numbers = np.concatenate(
            [index, boxes.ravel(), flips.astype(np.int64), np.array([factor]).view(np.int64)]
        )
        blocks = self._pictures.blocks(index, boxes)
        found = [torch.from_numpy(numbers), *([] if blocks is None else [blocks])]
        if self._mixing:
            partner, share = self._mixing.draw(len(index), self._training.mix)
            mix = np.concatenate([partner, np.array([share]).view(np.int64)])
            found.append(torch.from_numpy(mix))
        return found

    def _feed_of(self, host: list[Tensor]) -> Feed:
        return self._feeds.setdefault(len(host[0]), Feed(host, self._device))

    def _fill(self, feed: Feed, host: list[Tensor]) -> None:
        """Fill a recording's inputs, with fresh noise where the method draws some."""
        noise = self._training.network.method.noise(_rows(host))
        feed.fill([*host, *noise])

    def _crops(self, feed: Feed) -> Tensor:
        numbers, rows = feed.tensors[0], _rows(feed.tensors)
        index, boxes, flips = numbers[:rows], numbers[rows : 5 * rows], numbers[5 * rows : 6 * rows]
        blocks = None if self._pictures.resident else feed.tensors[1]
        crops = self._pictures.crops(index, boxes.view(rows, 4), flips > 0, blocks)
        partner, share = self._mix(feed)
        if partner is not None and share is not None:
            crops = mixed(crops, partner, share)
        lie = layout(self._device, self._training.protocol.precision)
        return crops.contiguous(memory_format=lie)

    def _mix(self, feed: Feed) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return partners and share of a batch, twice None where its images are not mixed."""
        if not self._mixing:
            return None, None
        numbers = feed.tensors[self._own - 1]
        return numbers[:-1], numbers[-1:].view(torch.float64)[0].float()

    @property
    def _own(self) -> int:
        """Return how many of the inputs are not the method's noise."""
        return 1 + (self._pictures.resident is None) + (self._mixing is not None)

    def _noise(self, feed: Feed) -> tuple[Tensor, ...]:
        return tuple(feed.tensors[self._own :])

    # Computation: the same code for ordinary steps and for what is recorded.

    def _losses(self, network: Network, feed: Feed, batch: Batch) -> dict[str, Tensor]:
        images = self._crops(feed)
        with autocast(self._training.protocol, self._device, cached=False):
            views = network(images)
        return network.method.losses(views, batch)

    def _with_tensors(self, batch: Batch, feed: Feed) -> Batch:
        index = feed.tensors[0][: _rows(feed.tensors)]
        partner, share = self._mix(feed)
        labels = self._labels[index]
        return replace(batch, labels=labels, index=index, partner=partner, share=share)

    def _compute(self, feed: Feed, batch: Batch) -> None:
        """Take a step on what ``feed`` holds."""
        network, seen = self._training.network, self._with_tensors(batch, feed)
        network.method.drawn = self._noise(feed)

        def evaluate() -> dict[str, Tensor]:
            losses = self._losses(network, feed, seen)
            backward(self._optimizer, losses)
            return losses

        self._move(feed, self._gradients.of_step(batch.step, evaluate))
        network.method.drawn = ()

    def _move(self, feed: Feed, losses: dict[str, Tensor]) -> None:
        """Take a step along the gradients, at the factor that ``feed`` holds, and add up losses."""
        factor = feed.tensors[0][-1:].view(torch.float64)[0]
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"].copy_(factor * rate)
        # torch warns when an optimiser made for recording runs without one
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This instance was constructed with")
            move(self._training, self._optimizer)
        self._learnt |= with_gradient(self._optimizer)
        for name, value in losses.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), device=self._device)
            self._sums[name] += value.detach()

    def _in_parts(self, draw: Draw, batch: Batch, factor: float) -> None:
        """Take a step on several of the protocol's batches."""
        hosts = [self._host_inputs(part, factor) for part in self._parts.of(draw)]
        index = torch.as_tensor(np.asarray(draw.index, np.int64)).to(self._device)
        batch = replace(batch, labels=self._labels[index], index=index)

        def images(host: list[Tensor]) -> Tensor:
            feed = self._feed_of(host)
            feed.fill(host)
            return self._crops(feed)

        made = [functools.partial(images, host) for host in hosts]
        evaluate = functools.partial(self._parts.gradients, self._optimizer, made, batch)
        losses = self._gradients.of_step(batch.step, evaluate)
        self._move(self._feed_of(hosts[-1]), losses)

    def _eager(self, host: list[Tensor], batch: Batch) -> None:
        feed = self._feed_of(host)
        feed.fill(host)
        self._compute(feed, batch)

    # Recording

    def _may_record(self, key: Hashable) -> bool:
        warm = self._taken.get(key, 0) >= WARM
        return not self._why and warm and len(self._recordings) < MOST

    def _record(self, key: Hashable, batch: Batch, host: list[Tensor]) -> Recording | None:
        """Rehearse and record this kind of step; None where it cannot be."""
        assert self._recorder is not None
        method = self._training.network.method
        state = torch.random.get_rng_state()
        feed = Feed([*host, *method.noise(_rows(host))], self._device)
        torch.random.set_rng_state(state)  # it is drawn again for the step itself
        feed.fill([*host, *self._noise_like(feed)])

        def losses(network: Network, seen: Batch) -> dict[str, Tensor]:
            network.method.drawn = self._noise(feed)
            return self._losses(network, feed, seen)

        found = obstacle(
            self._training.network, losses, self._with_tensors(batch, feed), self._recorder
        )
        if found:
            self._stop(found)
            return None
        self._optimizer.zero_grad(set_to_none=True)
        try:
            replay = self._recorder.record(lambda: self._compute(feed, batch))
        except (RuntimeError, NotImplementedError) as error:
            method.drawn = ()
            self._stop(f"recording failed ({str(error).splitlines()[0][:160]})")
            return None
        self._recordings[key] = Recording(replay, feed)
        return self._recordings[key]

    def _noise_like(self, feed: Feed) -> list[Tensor]:
        return [torch.zeros_like(part, device="cpu") for part in self._noise(feed)]

    def _prove(self, made: Recording, batch: Batch, host: list[Tensor]) -> None:
        """Take a step both ways from the same state; go on from the ordinary one."""
        self._fill(made.feed, host)
        before, generator = State(self._written()), self._device_generator()
        made.replay()
        played = State(self._written())
        before.restore()
        self._set_device_generator(generator)
        self._compute(made.feed, batch)
        apart = played.apart_from(State(self._written()), before)
        lenient = torch.is_deterministic_algorithms_warn_only_enabled()
        if apart > (ALIKE if lenient else 0.0):
            self._stop(f"a recorded step differs by {apart:.1g} of what a step changes")
        made.proofs -= 1

    def _written(self) -> list[Tensor]:
        """Return every tensor that a step writes and the next one reads."""
        state = self._optimizer.state.values()
        moments = [v for values in state for v in values.values() if isinstance(v, Tensor)]
        weights = self._training.network.state_dict(keep_vars=True).values()
        extra = [b for b in self._training.network.buffers()]
        seen = {id(t): t for t in [*weights, *extra, *moments, *self._sums.values()]}
        return list(seen.values())

    def _device_generator(self) -> Tensor | None:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def _set_device_generator(self, state: Tensor | None) -> None:
        if state is not None:
            torch.cuda.set_rng_state(state, self._device)

    def _stop(self, why: str) -> None:
        """Take ordinary steps from here on."""
        self._why = why
        self._recordings.clear()


def _rows(host: Sequence[Tensor]) -> int:
    """Return the batch size: inputs hold six numbers an image (index, box, flip) and one factor."""
    return (len(host[0]) - 1) // 6


def steps_on(training: Training, device: torch.device) -> DeviceSteps:
    """Return the steps of a training on a device other than the CPU."""
    return DeviceSteps(training, CudaRecorder() if device.type == "cuda" else None)
