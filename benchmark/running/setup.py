"""A command's names, turned into objects and checked before anything is written."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from importlib.util import find_spec

from benchmark.engines.machine import cuda_devices, default_workers, pick_device
from benchmark.study import grid
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.grid import Axes
from benchmark.study.records import CellRecord
from benchmark.training.splits import DataSource
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import Protocol
from protocols.recipe import Recipe
from protocols.weights import Weights
from protocols.weights import parse as parse_weights


@dataclass(frozen=True)
class Place:
    """Where jobs run, as asked for.

    Attributes:
        engine: ``local`` or ``ray``.
        address: of the Ray cluster; None looks on this machine.
        gpus_per_job: share of a GPU under Ray.
        deterministic: whether an operation that may differ between two runs is an error.
        devices: the CUDA devices of this machine that local workers share out.
    """

    engine: str = "local"
    address: str | None = None
    gpus_per_job: float = 1.0
    deterministic: bool = False
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """A command's names, turned into objects and checked.

    ``device`` may still be ``auto`` and ``workers`` 0; see :func:`with_device`. Under Ray
    ``workers`` stays 0 where no limit was asked for: the cluster says how many there are.
    """

    study: Study
    asked: list[CellKey]
    cells: list[tuple[CellKey, CellRecord]]
    registry: Registry
    recipes: dict[str, Recipe]
    sources: dict[str, DataSource]
    device: str
    weights: Weights
    workers: int
    place: Place


def set_up(args: argparse.Namespace) -> Setup:
    """Turn names into objects; raise on the first that is wrong, before anything is written."""
    registry = Registry(tuple(args.plugin))
    protocol = read_protocol(args, registry)
    known = load_study(args.out)
    if known is not None:
        check_same_rules(known, protocol)
    axes = Axes(
        methods=args.methods or (protocol.baseline,),
        datasets=args.datasets or protocol.datasets,
        trunks=args.trunks or (protocol.trunk,),
        recipes=args.recipes or (protocol.recipe,),
    )
    weights = parse_weights(args.weights)
    found = grid.make_cells(axes, protocol, registry, args.root, weights)
    cells = [(grid.key_of(record, protocol, registry, known), record) for record in found]
    cells += further_searches(cells, protocol, args.search_repeats)
    keys = [key for key, _ in cells]
    study = (known or Study(args.out, protocol)).extend(keys, protocol.seeds)
    if args.engine == "ray" and find_spec("ray") is None:
        raise InvalidInputError("engine 'ray' is not installed: pip install 'ray[default]'")
    if args.device != "auto" and args.engine == "local":
        pick_device(args.device)
    return Setup(
        study=study,
        asked=keys,
        cells=cells,
        registry=registry,
        recipes={name: registry.load("recipe", name) for name in axes.recipes},
        sources={
            record.dataset: DataSource(
                record.dataset, record.identity["dataset_digest"], args.root, args.out / "cache"
            )
            for record in found
        },
        device=args.device,
        weights=weights,
        workers=args.jobs or 0,
        place=Place(args.engine, args.address, args.gpus_per_job, args.deterministic),
    )


def with_device(setup: Setup) -> Setup:
    """Return the setup with ``auto`` settled and the number of workers known.

    Only for a study with work left: looking for devices imports torch, or joins a cluster.
    """
    protocol = setup.study.protocol
    if setup.place.engine == "ray":
        from benchmark.engines import ray_cluster  # found installed by set_up

        ray_cluster.connect(setup.place.address, protocol.threads_per_job)
        return replace(setup, device=ray_cluster.pick_device(setup.device))
    device = pick_device(setup.device)
    devices = cuda_devices(device)
    workers = setup.workers or default_workers(devices, protocol)
    # A worker sees its own device alone, so all jobs call it by the same name.
    place = replace(setup.place, devices=devices)
    return replace(setup, device=device.partition(":")[0], workers=workers, place=place)


def read_protocol(args: argparse.Namespace, registry: Registry) -> Protocol:
    """Return the protocol with the command line's changes; a change makes it a derived one."""
    named: Protocol = registry.load("protocol", args.protocol)
    one = {"trunk": args.trunks, "recipe": args.recipes}
    single = {k: v[0] for k, v in one.items() if v is not None and len(v) == 1}
    words = ("trials", "seeds", "params", "bounds", "precision")
    asked = {word: getattr(args, word) for word in words}
    derived = named.derive(**asked, oracle_gap=args.oracle_gap or None, **single)
    return derived.matching_cost() if args.match_cost else derived


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


def check_same_rules(known: Study, protocol: Protocol) -> None:
    """Raise StoreError if the folder holds a study under other rules."""
    if known.protocol.oracle_gap != protocol.oracle_gap:
        kind = {True: "with --oracle-gap", False: "without --oracle-gap"}
        raise StoreError(
            f"{known.out} holds a study {kind[known.protocol.oracle_gap]}, asked for one "
            f"{kind[protocol.oracle_gap]}: its test classes are opened more often. Give this one a "
            "folder of its own with --out"
        )
    if known.protocol.rules_hash() == protocol.rules_hash():
        return
    here, asked = known.protocol.rules(), protocol.rules()
    changed = [
        f"{name} {here.get(name)!r} here, {asked.get(name)!r} asked for"
        for name in {**here, **asked}
        if here.get(name) != asked.get(name)
    ]
    raise StoreError(
        f"{known.out} holds a study under other rules ({'; '.join(changed)}). Rows of the two "
        "cannot stand in one table: give this one a folder of its own with --out"
    )
