"""pytorch-metric-learning's own trainer and tester over a DataLoader: the stock pipeline."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms

from benchmark.engines.worker import keep_memory
from benchmark.training import splits
from benchmark.training.job import Job
from tests.perf.training import Rate, network_of

SKIPPED = 5  # iterations at the start: workers fill their queues


@dataclass
class Pictures(Dataset):
    """Images by position; files are decoded at every read, arrays are there already."""

    sources: list
    labels: list
    transform: object

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index):
        source = self.sources[index]
        image = Image.open(source).convert("RGB") if isinstance(source, str) else source
        return self.transform(image), self.labels[index]


def set_up() -> None:
    """Give this process the machine's two cores, as torch does by itself."""
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad", UserWarning)
    torch.set_num_threads(2)


def set_up_keeping_memory() -> None:
    """The same, with the allocation of the program's workers, which no stock script has."""
    set_up()
    keep_memory()


def measure(job: Job, workers: int) -> Rate:
    """Train until the job's first validation, then validate; return what one of each takes."""
    steps = job.protocol.pace.validate_every
    logging.getLogger("PML").setLevel(logging.ERROR)
    from pytorch_metric_learning import samplers, testers, trainers
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    train, validation = splits.open_fold(job.source, job.protocol, job.fold)
    network = network_of(job, train).to(memory_format=torch.contiguous_format)
    trunk, head = _Pooled(network.trunk), network.method.head
    ends: list[float] = []
    loss = network.method.terms[0].loss
    own = _pictures(job, train, _training(job))
    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": head},
        optimizers={
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=job.recipe.lr),
            "embedder_optimizer": torch.optim.Adam(head.parameters(), lr=job.recipe.lr),
        },
        batch_size=job.protocol.batch_size,
        loss_funcs={"metric_loss": loss},
        dataset=own,
        sampler=samplers.MPerClassSampler(
            own.labels, job.protocol.pair_images_per_class, length_before_new_iter=10_000
        ),
        iterations_per_epoch=steps + SKIPPED,
        dataloader_num_workers=workers,
        end_of_iteration_hook=lambda _: ends.append(time.perf_counter()),
        data_device=torch.device("cpu"),
    )
    trainer.train(num_epochs=1)
    tester = testers.GlobalEmbeddingSpaceTester(
        batch_size=job.protocol.eval_batch,
        dataloader_num_workers=workers,
        data_device=torch.device("cpu"),
        accuracy_calculator=AccuracyCalculator(
            include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
            k="max_bin_count",
            device=torch.device("cpu"),
        ),
        end_of_testing_hook=lambda _: None,
    )
    held = {"val": _pictures(job, validation, _evaluation(job))}
    started = time.perf_counter()
    tester.test(held, 1, trunk, head)
    validated = (time.perf_counter() - started) / len(validation)
    return Rate((ends[-1] - ends[SKIPPED - 1]) / steps, validated)


class _Pooled(torch.nn.Module):
    """The trunk as the library expects one: scaled images in, a vector out."""

    def __init__(self, trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images):
        return self.trunk(images).vector


def _pictures(job: Job, split: splits.Split, transform) -> Pictures:
    """Return a split as the stock pipeline holds it: emoji in memory, photographs as files."""
    labels = split.labels.tolist()
    images = splits._dataset(job.source).images
    if job.source.root is None:
        held = [Image.fromarray(images.read(int(i))) for i in split.index]
        return Pictures(held, labels, transform)
    paths = [str(images.folder / images.rows[int(i)].path) for i in split.index]
    return Pictures(paths, labels, transform)


def _training(job: Job):
    image = job.protocol.image
    steps = [
        *_resized(job),
        transforms.RandomResizedCrop(image.crop_px, scale=image.area, ratio=image.aspect),
        *([transforms.RandomHorizontalFlip(image.flip)] if image.flip else []),
    ]
    return transforms.Compose([*steps, *_tensor()])


def _evaluation(job: Job):
    crop = transforms.CenterCrop(job.protocol.image.crop_px)
    return transforms.Compose([*_resized(job), crop, *_tensor()])


def _resized(job: Job) -> list:
    return [] if job.source.root is None else [transforms.Resize(job.protocol.image.resize_px)]


def _tensor() -> list:
    return [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
