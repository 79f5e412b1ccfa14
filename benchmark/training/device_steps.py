"""Steps on a device, and where that is proven to give the same, recorded ones.

The first steps of a training are ordinary ones. Then a step is rehearsed, recorded and played
beside two ordinary steps from the same state; only a recording that gives the same is used. Where
the loss stands in the way, the trunk alone is recorded: :mod:`benchmark.training.trunk_steps`. The
random draws of the host keep their order, so a training sees the same batches, boxes and noise
however its steps are taken.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.broken import BrokenByRecordingError
from benchmark.training import device
from benchmark.training.feed import Feed
from benchmark.training.graphs import (
    Compute,
    CudaRecorder,
    Recorder,
    State,
    first_line,
    obstacle,
)
from benchmark.training.ordinary_steps import OrdinarySteps
from benchmark.training.steps import Training, batch_of
from benchmark.training.trunk_steps import Outcome, TrunkRecording, all_put_back, record_trunk
from protocols.method import Batch, Draw, Method
from protocols.network import Network

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


class DeviceSteps(OrdinarySteps):
    """Steps on one device, recorded where that gives the same.

    Args:
        training: what they share.
        recorder: None for steps that are never recorded.
        off: why there is none.
    """

    def __init__(
        self, training: Training, recorder: Recorder | None, off: str = "recording is off"
    ) -> None:
        super().__init__(training)
        self._recorder = recorder
        self._taken: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, Recording | TrunkRecording] = {}
        self._made = 0  # recordings, of the whole step or of the trunk alone
        self._off = self._parts.why or ("" if recorder else off)  # why nothing is recorded
        self._why = ""  # why the whole step is not
        self._proven = False  # whether a recording ever was

    @property
    def how(self) -> str:
        """Return ``graph``, ``trunk: `` and why not that, or ``eager: `` and why neither."""
        if not self._off and self._proven:
            return f"trunk: {self._why}" if self._why else "graph"
        return f"eager: {self._off or self._why or 'too few steps'}"

    def take(self, draw: Draw, step: int, factor: float) -> None:
        """Take one step; recorded where its kind was proven."""
        batch = batch_of(self._training, draw, step)
        if self._parts.several:
            self._in_parts(draw, batch, factor)
            return
        host = self._inputs.drawn(draw, factor)
        method, moving = self._training.network.method, not self._gradients.head_alone(step)
        key = (len(draw.index), method.graph_key(batch), moving)
        made = self._recording(key, method)
        if made is None and self._may_record(key):
            made = self._record(key, batch, host)
        if made is None:
            self._eager(host, batch)
        else:
            self._inputs.fill(made.feed, host)
            if made.proofs:
                self._prove(key, made, batch)
            else:
                self._play(made, batch)
        self._taken[key] = self._taken.get(key, 0) + 1

    def _recording(self, key: Hashable, method: Method) -> Recording | TrunkRecording | None:
        """Return the recording of a kind of step, None where there is none that fits any more."""
        made = self._recordings.get(key)
        if isinstance(made, TrunkRecording):
            fits = made.fits(method, PROOFS)
            # proofs at more than half of all steps cost more than the other steps save
            often = made.times > MOST and 2 * PROOFS * made.times > self._taken[key]
            if often or not fits:
                self._forget(key, often)
                return None
        return made

    def _forget(self, key: Hashable, often: bool = False) -> None:
        """Let a trunk be recorded anew; one that changes too often leaves ordinary steps."""
        del self._recordings[key]
        if often or (not self._recordings and self._made >= MOST):
            self._off = f"{self._why}; the trunk alone changes too often"
            self._recordings.clear()

    def _may_record(self, key: Hashable) -> bool:
        return not self._off and self._taken.get(key, 0) >= WARM and self._made < MOST

    def _record(
        self, key: Hashable, batch: Batch, host: list[Tensor]
    ) -> Recording | TrunkRecording | None:
        """Rehearse and record this kind of step, or its trunk alone; None where neither can be."""
        method = self._training.network.method
        feed = self._inputs.feed_to_record(host)
        made: Recording | TrunkRecording | None = None
        with self._generator_kept():  # a rehearsal may draw from it
            if not self._why:
                made = self._record_whole(feed, batch)
            if made is None:
                made = self._record_trunk(feed, batch)
        method.drawn = ()
        if made is not None:
            self._recordings[key] = made
            self._made += 1
        return made

    def _record_whole(self, feed: Feed, batch: Batch) -> Recording | None:
        assert self._recorder is not None
        network = self._training.network

        def losses(network: Network, seen: Batch) -> dict[str, Tensor]:
            network.method.drawn = self._inputs.noise(feed)
            return network.method.losses(self._views(network, feed), seen)

        if found := obstacle(network, losses, self._inputs.batch(batch, feed), self._recorder):
            self._fall_back(found)
            return None
        self._optimizer.zero_grad(set_to_none=True)
        try:
            replay = self._recorder.record(lambda: self._compute(feed, batch))
        except (RuntimeError, NotImplementedError) as error:
            self._fall_back(f"recording failed ({first_line(error)})")
            self._check_device(error)
            return None
        return Recording(replay, feed)

    def _record_trunk(self, feed: Feed, batch: Batch) -> TrunkRecording | None:
        """Record the trunk alone; what does not fit leaves ordinary steps."""
        assert self._recorder is not None
        made, failed = None, ""
        if self._gradients.several:
            self._off = f"{self._why}; its recipe takes two gradients a step"
            return None

        def forward(network: Network) -> dict[str, Tensor]:
            network.method.drawn = self._inputs.noise(feed)
            return self._views(network, feed)

        seen = self._inputs.batch(batch, feed)
        try:
            with self._gradients.moving(batch.step):
                network = self._training.network
                made = record_trunk(network, forward, seen, feed, self._recorder, PROOFS)
        except Exception as error:  # of a loss that wants more of its views than copies of them
            self._check_device(error)
            failed = f"; the trunk alone fails ({first_line(error)})"
        if made is None:
            self._off = f"{self._why}{failed}"
            self._recordings.clear()
        return made

    def _play(self, made: Recording | TrunkRecording, batch: Batch) -> None:
        """Take a step on what the recording's feed holds."""
        if isinstance(made, Recording):
            made.replay()
            return
        method, seen = self._training.network.method, self._inputs.batch(batch, made.feed)
        method.drawn = self._inputs.noise(made.feed)
        with self._gradients.moving(batch.step):
            made.forward()
            losses = made.gradients(method, made.parameters, seen)
        method.drawn = ()
        self._move(made.feed, losses)

    def _prove(self, key: Hashable, made: Recording | TrunkRecording, batch: Batch) -> None:
        """Take a step both ways from the same state; go on from the ordinary one."""
        lenient = torch.is_deterministic_algorithms_warn_only_enabled()
        # what changes on the host a little at a time would drift away unseen
        host = isinstance(made, TrunkRecording) and bool(made.free or made.moved)
        most = ALIKE if lenient and not host else 0.0
        made.proofs -= 1
        if isinstance(made, Recording):
            if (apart := self._whole_apart(made, batch)) > most:
                self._fall_back(f"a recorded step differs by {apart:.1g} of what a step changes")
                return
        elif wrong := self._trunk_wrong(made, batch, most):
            if made.times:
                self._forget(key)
                return
            self._off = f"{self._why}; the trunk alone {wrong}"
            self._recordings.clear()
        self._proven = self._proven or made.proofs == 0

    def _whole_apart(self, made: Recording, batch: Batch) -> float:
        before = State(self._written())
        with self._generator_kept():
            made.replay()
            played = State(self._written())
            before.restore()
        self._compute(made.feed, batch)
        return played.apart_from(State(self._written()), before)

    def _trunk_wrong(self, made: TrunkRecording, batch: Batch, most: float) -> str:
        """Return how the gradients of a step that is played differ, "" for not at all.

        Its loss is taken on a copy of the method, so that the method itself sees the step once.
        """
        network, seen = self._training.network, self._inputs.batch(batch, made.feed)
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        network.method.drawn = self._inputs.noise(made.feed)
        played, failed = None, ""
        with self._generator_kept(), all_put_back(network), self._gradients.moving(batch.step):
            try:
                made.forward()
                copied = copy.deepcopy(network)
                losses = made.gradients(copied.method, dict(copied.named_parameters()), seen)
                played = Outcome.of(copied, losses)
            except Exception as error:  # likewise; what is wrong with the loss itself comes below
                self._check_device(error)
                failed = f"fails ({first_line(error)})"
        losses = self._evaluated(made.feed, batch)
        apart = played.apart_from(Outcome.of(network, losses), before) if played else 0.0
        self._move(made.feed, losses)
        return failed or (f"differs by {apart:.1g} of its gradients" if apart > most else "")

    def _check_device(self, error: Exception) -> None:
        """Raise BrokenByRecordingError where a recording that failed has left it unusable."""
        if not device.answers(self._device):
            raise BrokenByRecordingError(
                f"a recording broke the device: {first_line(error)}"
            ) from error

    def _fall_back(self, why: str) -> None:
        """Record no whole steps from here on."""
        self._why, self._made, self._proven = why, 0, False
        self._recordings.clear()


def steps_on(training: Training, place: torch.device) -> DeviceSteps:
    """Return the steps of a training on a device other than the CPU."""
    if not training.record_steps:
        return DeviceSteps(training, None, "a recording broke the device before")
    return DeviceSteps(training, CudaRecorder() if place.type == "cuda" else None)
