"""A command's names, turned into objects and checked before anything is written."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from benchmark import plan as planning
from benchmark import study as studies
from benchmark.data import DataSource
from benchmark.machine import default_workers, pick_device
from benchmark.plan import Grid
from benchmark.records import CellRecord
from benchmark.study import CellKey, Study
from protocols.discovery import Registry
from protocols.errors import StoreError
from protocols.protocol import Protocol
from protocols.recipe import Recipe
from protocols.weights import Weights
from protocols.weights import parse as parse_weights


@dataclass(frozen=True)
class Setup:
    """A command's names, turned into objects and checked.

    ``device`` may still be ``auto`` and ``workers`` 0; see :func:`with_device`.
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


def set_up(args: argparse.Namespace) -> Setup:
    """Turn names into objects; raise on the first that is wrong, before anything is written."""
    registry = Registry(tuple(args.plugin))
    protocol = read_protocol(args, registry)
    known = studies.load(args.out)
    if known is not None:
        check_same_rules(known, protocol)
    grid = Grid(
        methods=args.methods or (protocol.baseline,),
        datasets=args.datasets or protocol.datasets,
        trunks=args.trunks or (protocol.trunk,),
        recipes=args.recipes or (protocol.recipe,),
    )
    weights = parse_weights(args.weights)
    found = planning.make_cells(grid, protocol, registry, args.root, weights)
    cells = [(planning.key_of(record, protocol, registry, known), record) for record in found]
    keys = [key for key, _ in cells]
    study = (known or Study(args.out, protocol)).extend(keys, protocol.seeds)
    if args.device != "auto":
        pick_device(args.device)
    return Setup(
        study=study,
        asked=keys,
        cells=cells,
        registry=registry,
        recipes={name: registry.load("recipe", name) for name in grid.recipes},
        sources={
            record.dataset: DataSource(
                record.dataset, record.identity["dataset_digest"], args.root, args.out / "cache"
            )
            for record in found
        },
        device=args.device,
        weights=weights,
        workers=args.jobs or 0,
    )


def with_device(setup: Setup) -> Setup:
    """Return the setup with ``auto`` settled and the number of workers known.

    Only for a study with work left: looking for devices imports torch.
    """
    device = pick_device(setup.device)
    workers = setup.workers or default_workers(device, setup.study.protocol)
    return replace(setup, device=device, workers=workers)


def read_protocol(args: argparse.Namespace, registry: Registry) -> Protocol:
    """Return the protocol with the command line's changes; a change makes it a derived one."""
    named: Protocol = registry.load("protocol", args.protocol)
    one = {"trunk": args.trunks, "recipe": args.recipes}
    single = {k: v[0] for k, v in one.items() if v is not None and len(v) == 1}
    words = ("trials", "seeds", "params", "bounds", "precision")
    return named.derive(**{word: getattr(args, word) for word in words}, **single)


def check_same_rules(known: Study, protocol: Protocol) -> None:
    """Raise StoreError if the folder holds a study under other rules."""
    if known.protocol.rules_hash() == protocol.rules_hash():
        return
    here, asked = known.protocol, protocol
    changed = [
        f"{name} {value!r} here, {asked.rules()[name]!r} asked for"
        for name, value in here.rules().items()
        if value != asked.rules()[name]
    ]
    raise StoreError(
        f"{known.out} holds a study under other rules ({'; '.join(changed)}). Rows of the two "
        "cannot stand in one table: give this one a folder of its own with --out"
    )
