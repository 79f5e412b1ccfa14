"""What one CUDA device does; rows without a number where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.engines.local import LocalEngine
from benchmark.training import splits
from benchmark.training.fit import Probe, contiguous, draw_batches
from benchmark.training.job import Job
from protocols import discovery
from protocols.images import crop, training_boxes
from protocols.protocol import ImagePipeline, Protocol
from tests.perf import pictures
from tests.perf.rows import ROUNDS, Row, in_turn, ratio, seconds, shown
from tests.perf.search import embeddings
from tests.perf.training import Rate, against, network_of, streams
from tests.perf.trials import PHOTOS, pair

STEPS = 20
TRUNKS = {"resnet50": 224, "bn_inception": 227}
RULES: Protocol = discovery.load("protocol", "reality-check")
PACE = RULES.paces["cub200"]
SHORTEST = (PACE.patience + 1) * PACE.validate_every  # where step 0 stays the best
METHODS = 14  # of the paper


def rows(folder: Path) -> list[Row]:
    """Return the rows of the device, or say that there is none."""
    wanted: list[tuple[str, str, Callable[[], tuple[float, int, str]], str]] = [
        (f"fit / captured graph, {trunk}, {side} px, bf16", ">= 0.85", _graph(folder, trunk), "")
        for trunk, side in TRUNKS.items()
    ]
    wanted += [
        ("4 fold jobs on one device / one", ">= 2.5", lambda: _four(folder), ""),
        ("metrics of 60,502 x 512 on the device", "<= 0.5", _metrics, "s"),
        ("the paper's CUB column, at its shortest", "", lambda: _column(folder), "h"),
    ]
    if not torch.cuda.is_available():
        return [Row(what, None, target, 0, "no GPU here", u) for what, target, _, u in wanted]
    name = torch.cuda.get_device_name()
    found = []
    for what, target, measure, unit in wanted:
        value, n, detail = measure()
        found.append(Row(what, value, target, n, f"{name}; {detail}", unit))
    return found


def _graph(folder: Path, trunk: str) -> Callable[[], tuple[float, int, str]]:
    def measure() -> tuple[float, int, str]:
        side = TRUNKS[trunk]
        image = ImagePipeline(resize_px=256, crop_px=side)
        changes = {"image": image, "precision": "bf16"}
        made = replace(_job(folder, trunk, **changes), device="cuda")
        found = against(made, captured_loop(made, STEPS), STEPS, 10)
        return median(found), len(found), f"batch {made.protocol.batch_size}, proxies, Adam"

    return measure


def _job(folder: Path, trunk: str, **changes: object) -> Job:
    return pictures.job(folder, "photographs", trunk, "nsoftmax", **changes)


def captured_loop(job: Job, steps: int) -> Callable[[], float]:
    """Return what replays a captured step on resident images and returns its seconds.

    Forward, a softmax over one proxy a class, backward and Adam, as one graph.
    """
    train, _ = splits.open_fold(job.source, job.protocol, job.fold)
    network = network_of(job, train).train()
    labels = contiguous(train.labels)
    draw = next(draw_batches(Probe(network, train, job.protocol), labels, streams()))
    index = torch.as_tensor(draw.index)
    pixels, sizes = train.store.batch(train.index[index.numpy()])
    boxes, flips = training_boxes(job.protocol.image, sizes, streams().augment)
    images = crop(torch.from_numpy(pixels).cuda(), boxes, job.protocol.image.crop_px, flips)
    images = images.contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(labels)[index].cuda()
    proxies = torch.randn(int(labels.max()) + 1, job.protocol.embedding_size, device="cuda")
    proxies.requires_grad_()
    learnt = [*network.trunk.parameters(), *network.method.head.parameters(), proxies]
    optimizer = torch.optim.Adam([p for p in learnt if p.requires_grad], 1e-6, capturable=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            z = network.method.head(network.trunk(_scaled(images, network)).vector)
        z, p = functional.normalize(z.float()), functional.normalize(proxies)
        loss = functional.cross_entropy(20 * z @ p.T, wanted)
        loss.backward()
        optimizer.step()
        return loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def run() -> float:
        def replay() -> None:
            for _ in range(steps):
                graph.replay()
            torch.cuda.synchronize()

        return seconds(replay) / steps

    return run


def _scaled(images: Tensor, network) -> Tensor:
    """Return the trunk's input; made once, outside the graph: it copies from the host."""
    scaled: Tensor | None = getattr(network, "scaled_once", None)
    if scaled is None:
        scaled = network.scaled_once = network.trunk.scale(images)
    return scaled


def _four(folder: Path) -> tuple[float, int, str]:
    made = pictures.paced(_job(folder, "resnet50", precision="bf16"), 80, 40)
    made = replace(made, device="cuda")
    engines = {n: LocalEngine(n, 1, folder / "workers.txt") for n in (1, 4)}

    def step_s(count: int) -> float:
        return pair(engines[count], made).step_s / count

    try:
        for count in engines:
            step_s(count)
        found = in_turn({"one": lambda: step_s(1), "four": lambda: step_s(4)})
    finally:
        for engine in engines.values():
            engine.close()
    return ratio(found["one"], found["four"]), ROUNDS, f"seconds a step: {shown(found)}"


def _column(folder: Path) -> tuple[float, int, str]:
    made = replace(_job(folder, "bn_inception", precision="bf16", image=PHOTOS), device="cuda")
    return column(pictures.paced(made, 80, 40), 4, folder / "workers.txt")


def column(made: Job, at_once: int, log: Path) -> tuple[float, int, str]:
    """Return the projected hours of the paper's searches on CUB, from the rate of ``made``."""
    engine = LocalEngine(at_once, 1, log)
    try:
        pair(engine, made)
        hours = [column_hours(pair(engine, made), at_once, SHORTEST) for _ in range(ROUNDS)]
    finally:
        engine.close()
    detail = f"{METHODS} methods, {at_once} jobs at once, all trainings stop at step {SHORTEST}, "
    return median(hours), ROUNDS, detail + "the first possible; hours grow with the steps"


def column_hours(rate: Rate, at_once: int, steps: int) -> float:
    """Return the hours of all searches where each training takes ``steps`` steps."""
    trainings = METHODS * RULES.search.trials * RULES.folds
    validations = 1 + steps // PACE.validate_every
    validated_s = validations * pictures.CUB_VALIDATION * rate.validated_s
    return trainings * (steps * rate.step_s + validated_s) / at_once / 3600


def _metrics() -> tuple[float, int, str]:
    from protocols import metrics

    x, labels = embeddings()
    metrics.per_query(x, labels, device="cuda")
    found = in_turn(
        {"metrics": lambda: seconds(lambda: metrics.per_query(x, labels, device="cuda"))}
    )
    return median(found["metrics"]), ROUNDS, "embeddings from the host, per-query values back"
