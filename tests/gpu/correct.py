"""What a GPU computes is what the CPU computes, and a recorded step what an ordinary one does."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from benchmark.training import fit as fitting
from benchmark.training import pictures
from benchmark.training.device import described
from benchmark.training.device_steps import PROOFS, WARM, DeviceSteps
from benchmark.training.draws import Streams
from benchmark.training.fit import fit
from benchmark.training.graphs import CudaRecorder
from benchmark.training.steps import HostSteps, Training
from protocols.discovery import Registry, load
from protocols.images import by_products, crop, eval_boxes
from protocols.method import Draw
from protocols.protocol import ImagePipeline
from tests import made
from tests.gpu import plugins as own
from tests.gpu.checks import Result

DEVICE = "cuda"
RECIPES = ("sam", "head_first", "layerwise", "sgd_cosine")
# recipes of whole trainings, and their steps
FITTED = {"swa": 400, "clr": 400, **dict.fromkeys(RECIPES, 200)}
STEPS = WARM + PROOFS + 6
PHOTOS = ImagePipeline(resize_px=256, crop_px=227, area=(0.16, 1.0), aspect=(0.75, 1.33))
# of a step on two devices: losses, weights, and the change of all weights together
APART = (1e-4, 1e-3, 1e-2)
TRAINED = [n for n in Registry().names("method") if load("method", n).trains]
# One box for all: the whole image at its own size, so that both devices see the same bytes.
WHOLE = replace(made.TOY, image=ImagePipeline(32, 32, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.5))


def card() -> Result:
    """Say what is measured on."""
    found = described("cuda")
    free, total = torch.cuda.mem_get_info()
    found |= {"torch": torch.__version__, "free_gb": free >> 30, "total_gb": total >> 30}
    return Result(None, ", ".join(f"{k} {v}" for k, v in found.items()), found)


def crop_check() -> Result:
    """Hold crops on the device against both of the host's."""
    rng = np.random.default_rng(0)
    sizes = np.stack([np.full(64, 256), rng.integers(256, 400, 64)], axis=1)
    split = made.split(sizes)
    seen = pictures.on_device(split, PHOTOS, torch.device(DEVICE))
    index = rng.integers(0, 64, 32)
    boxes, flips = seen.draw(index, rng)
    places = [torch.from_numpy(part).to(DEVICE) for part in (index, boxes, flips)]
    found = seen.crops(*places, None).cpu()
    pixels, _ = split.store.batch(index)
    host = torch.from_numpy(pixels)
    products = by_products(host, boxes, PHOTOS.crop_px)
    products[torch.from_numpy(flips)] = products[torch.from_numpy(flips)].flip(3)
    kernel = crop(host, boxes, PHOTOS.crop_px, flips)
    off = {"products": _off(found, products), "kernel": _off(found, kernel)}
    protocol = replace(made.TOY, image=PHOTOS)
    (first,) = pictures.eval_images(replace(split, made=split.made), protocol, torch.device(DEVICE))
    whole, _ = split.store.batch(np.arange(64))
    wanted = crop(torch.from_numpy(whole), eval_boxes(PHOTOS, sizes), PHOTOS.crop_px)
    equal = torch.equal(first.cpu(), wanted)
    there = host.to(DEVICE)
    plain = by_products(there, boxes, PHOTOS.crop_px)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):  # as evaluation asks for them
        again = seen.crops(*places, None).cpu()
        same = torch.equal(by_products(there, boxes, PHOTOS.crop_px), plain)
    same = same and torch.equal(again, found)
    good = off["products"] <= 1e-4 and off["kernel"] <= 0.02 and equal and same
    text = f"off products {off['products']:.1e}, kernel {off['kernel']:.1e}; eval equal: {equal}"
    text += f"; the same in bf16: {same}"
    return Result(good, text, {**off, "eval_equal": equal, "bf16_equal": same})


def _off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert (found - wanted).abs().max() <= 2
    return float((found != wanted).double().mean())


def methods() -> Result:
    """Take six steps of every method on both devices, each from the same weights.

    Left to themselves, the two would part: where a loss picks hard examples, a rounding picks
    another one. So the device is given the host's weights before each step, and a step must give
    the host's losses and change the weights as the host does.
    """
    recipe = replace(load("recipe", "adam"), optimizer="sgd", lr=1e-2)
    split, wrong, worst = made.square(32), [], (0.0, 0.0, 0.0)
    for name in TRAINED:
        host = made.training(split, name, protocol=WHOLE, recipe=recipe)
        there = made.training(split, name, protocol=WHOLE, recipe=recipe, device=DEVICE)
        gaps = _apart(HostSteps(host), DeviceSteps(there, None), host, there)
        worst = tuple(map(max, worst, gaps))
        if any(gap > limit for gap, limit in zip(gaps, APART, strict=True)):
            wrong.append(f"{name} {_in_words(gaps)}")
    text = f"{len(TRAINED) - len(wrong)} of {len(TRAINED)}, worst: {_in_words(worst)}"
    values = {"wrong": wrong, "worst": list(worst)}
    return Result(not wrong, f"{text}; {'; '.join(wrong)}" if wrong else text, values)


def _in_words(gaps: tuple[float, ...]) -> str:
    words = zip(("loss", "weights", "of the change"), gaps, strict=True)
    return ", ".join(f"{word} {gap:.0e}" for word, gap in words)


def _apart(
    here: HostSteps, there: DeviceSteps, host: Training, other: Training
) -> tuple[float, ...]:
    """Return how far six steps part at most: losses, weights, and the change of all weights.

    Losses are held against their size or 1e-3, the change as |a - b| / |b - before|.
    """
    loss = weights = change = 0.0
    both = zip(range(6), made.draws(host), made.draws(other), strict=False)
    for step, index, same_index in both:
        assert np.array_equal(index, same_index)
        before = _vector(host)
        other.network.load_state_dict(host.network.state_dict())
        means = []
        for steps in (here, there):
            torch.manual_seed(3 + step)
            steps.take(Draw(index, 0), step, 1.0)
            means.append(steps.means(1))
        gaps = (abs(means[1][k] - v) / max(abs(v), 1e-3) for k, v in means[0].items())
        loss = max(loss, *gaps)
        after, after_there = _vector(host), _vector(other)
        weights = max(weights, float((after_there - after).abs().max()))
        change = max(change, float((after_there - after).norm() / (after - before).norm()))
    return loss, weights, change


def _vector(training: Training) -> torch.Tensor:
    """Return all weights and buffers of a network, one after the other, in float64."""
    values = training.network.state_dict().values()
    return torch.cat([value.detach().cpu().double().ravel() for value in values])


@contextmanager
def stream():
    """Work on a stream of its own, as a job does."""
    with torch.cuda.stream(torch.cuda.Stream()):
        yield
        torch.cuda.synchronize()


def run(split, method, recorder, count=STEPS, groups=1, **arguments):
    """Take steps; return them, all that they wrote, and the mean losses."""
    with stream():
        training = made.training(split, method, device=DEVICE, **arguments)
        taken = DeviceSteps(training, recorder)
        torch.manual_seed(3)
        for step, index in zip(range(count), made.draws(training), strict=False):
            taken.take(Draw(index, step % groups), step, 0.5 + step / 1000)
        losses = taken.means(count)
        return taken, [t.detach().clone() for t in taken._written()], losses


def same(first, second) -> bool:
    """Return whether all tensors have the same bits."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def recorded(split, method, count=STEPS, groups=1, **arguments) -> tuple[str, bool]:
    """Return how steps were taken, and whether they have the bits of ordinary ones.

    Ordinary steps that do not repeat their own bits cannot be held against.
    """
    taken, state, losses = run(split, method, CudaRecorder(), count, groups, **arguments)
    _, wanted, losses_wanted = run(split, method, None, count, groups, **arguments)
    if same(state, wanted) and losses == losses_wanted:
        return taken.how, True
    _, again, _ = run(split, method, None, count, groups, **arguments)
    unstable = not same(wanted, again)
    return taken.how + (" (ordinary steps do not repeat their bits)" if unstable else ""), unstable


def capture() -> Result:
    """Record a step of every method; group over its warm start, D&C over its learners."""
    split = made.square(32)
    many = 2 * (WARM + PROOFS + 3)
    found = {name: recorded(split, name) for name in TRAINED}
    found["group, over its warm start"] = recorded(split, "group", many, steps=4 * many)
    for sampling in ("distance", "nearest"):
        found[f"divide_conquer, 4 learners, {sampling}"] = recorded(
            split,
            "divide_conquer",
            4 * (WARM + PROOFS + 2),
            4,
            sampling=sampling,
            learners=4,
            finetune=0.95,
        )
    graphs = sum(found[name][0].startswith("graph") for name in TRAINED)
    wrong = [f"{name}: {how}" for name, (how, equal) in found.items() if not equal]
    other = [f"{name}: {how}" for name, (how, _) in found.items() if how != "graph"]
    text = f"{graphs} of {len(TRAINED)} recorded; unequal: {wrong or 'none'}; notes: {other or ''}"
    return Result(
        graphs == len(TRAINED) and not wrong, text, {n: list(v) for n, v in found.items()}
    )


def waits() -> Result:
    """Take steps, host work included, where a wait for the device is an error."""
    split, found = made.square(32), {}
    for name in ("triplet", "ms_miner", "bfe", "divide_conquer", "group", "proxy_anchor"):
        with stream():
            training = made.training(split, name, device=DEVICE)
            taken = DeviceSteps(training, CudaRecorder())
            batches = made.draws(training)
            for step in range(STEPS):
                taken.take(Draw(next(batches), 0), step, 1.0)
            torch.cuda.set_sync_debug_mode("error")
            try:
                for step in range(STEPS, STEPS + 4):
                    taken.take(Draw(next(batches), 0), step, 1.0)
                found[name] = taken.how
            except RuntimeError as error:
                found[name] = str(error)[:80]
            finally:
                torch.cuda.set_sync_debug_mode("default")
    wrong = {name: how for name, how in found.items() if how != "graph"}
    return Result(not wrong, str(wrong) if wrong else f"none in {len(found)} methods", found)


def recipes() -> Result:
    """Record every optimiser, clipping and bf16; and whole trainings of the shipped recipes."""
    split, found = made.square(32), {}
    base = replace(load("recipe", "adam"), lr=1e-3)
    changes = {
        "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
        "rmsprop, frozen": {"optimizer": "rmsprop", "momentum": 0.9, "batch_norm": "frozen_stats"},
        "radam": {"optimizer": "radam"},
        "sgd": {"optimizer": "sgd", "momentum": 0.9},
        "clip": {"clip": 0.1},
    }
    for name, change in changes.items():
        found[name] = recorded(split, "triplet", 30, recipe=replace(base, **change))
    found["bf16"] = recorded(split, "ms", 30, protocol=made.TOY.derive(precision="bf16"))
    for name in FITTED:
        found[f"fit {name}"] = _fitted(split, name, FITTED[name])
    wrong = {name: how for name, (how, equal) in found.items() if how != "graph" or not equal}
    return Result(not wrong, str(wrong) if wrong else f"{len(found)} equal", {"wrong": wrong})


def _fitted(split, recipe: str, count: int) -> tuple[str, bool]:
    """Return how ``fit`` took its steps, and whether recording changes nothing."""
    states, how, real = [], "", fitting.make_steps
    for recorder in (True, False):
        fitting.make_steps = lambda t, on=recorder: DeviceSteps(t, CudaRecorder() if on else None)
        try:
            with stream():
                named = load("recipe", recipe)
                training = made.training(split, "triplet", recipe=named, device=DEVICE, steps=count)
                rngs = Streams(*(np.random.default_rng(n) for n in range(4)))
                pace = replace(training.protocol.pace, max_steps=count, validate_every=40)
                protocol = replace(training.protocol, pace=pace)
                network = training.network
                fitted = fit(network, split, lambda: {"map_at_r": 0.0}, protocol, named, rngs)
                states.append([v.clone() for v in network.state_dict().values()])
                how = how or fitted.how
        finally:
            fitting.make_steps = real
    return how, same(*states)


def plugins() -> Result:
    """Under losses that a recording would freeze the trunk alone is recorded, and that is told."""
    split, found = made.square(32), {}
    places = [(method, "fp32", {}) for method in own.FROZEN]
    bf16 = {"protocol": made.TOY.derive(precision="bf16")}
    places += [(method, "bf16", bf16) for method in (own.Picks, own.Waits)]
    for method, precision, arguments in places:
        how, equal = recorded(split, method, **arguments)
        good = how.startswith(f"trunk: {own.FROZEN[method]}") and equal
        found[f"{method.__name__} {precision}"] = (how, good)
    wrong = {name: how for name, (how, good) in found.items() if not good}
    text = f"{len(found)} with a recorded trunk, the bits of ordinary steps"
    return Result(not wrong, str(wrong) if wrong else text, {"wrong": wrong})


warnings.filterwarnings("ignore", message=".*deterministic.*")
