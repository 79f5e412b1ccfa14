"""What ``data prepare`` proposes can be run, however many classes there are."""

import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main, make_parser
from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.intake.understood import lines, next_command, own_labels
from benchmark.running.setup import read_protocol
from benchmark.training.draws import images_per_class, largest
from protocols import batches
from protocols.discovery import Registry
from protocols.knobs import changed
from protocols.manifest import Row
from protocols.partition import folds_of
from protocols.protocol import FROZEN_ROWS
from protocols.splits import RULES

DIGEST = "ceee37c6ff8ac83b66c59b1138313e8b309863a8002b1a6c4efd61b71656a231"


def rows_of(sides):
    """Return two images of each class; ``sides`` says how many classes each part has."""
    parts = [part for part, count in sides.items() for _ in range(count)]
    return [
        Row(f"files/{label}/{n}.jpg", label, f"c{label}", part, f"{label:032x}{n:032x}")
        for label, part in enumerate(parts)
        for n in range(2)
    ]


@cache
def study(line):
    """Return protocol and settings of a proposed study, and its methods that train."""
    args, registry = make_parser().parse_args(shlex.split(line)[3:]), Registry()
    protocol = read_protocol(args, registry)
    forced = FROZEN_ROWS if args.weights else (protocol.reference,)
    methods = [registry.load("method", name) for name in (*args.methods, *forced)]
    return protocol, dict(args.set), [method for method in methods if method.trains]


def proposed(rows):
    """Return what is known of such images, and the studies that follow."""
    known, sizes = own_labels(rows, DIGEST), {row.path: (300, 200) for row in rows}
    check, *studies = next_command("things", Path("data"), known, sizes).splitlines()
    assert check == "python -m benchmark data check things --root data"
    assert [line.split()[3] for line in studies] in ([], ["plan", "run"])
    return known, [study(line) for line in studies]


def draw_first(known, protocol, methods):
    """Draw the first batch of each method in each fold, as a job would."""
    protocol = changed(protocol, {"folds": 1}) if known.has("val") else protocol
    for fold in folds_of(known, RULES[protocol.fold_rule], protocol.folds):
        labels = known.labels[known.rows(fold.train, ("train",))]
        drawn = {(largest(protocol, m), images_per_class(protocol, m)) for m in methods}
        for size, per_class in drawn:
            rng = np.random.default_rng(0)
            assert len(next(batches.SAMPLERS[protocol.sampler](labels, size, per_class, rng)))


@pytest.mark.parametrize("split", ["none", "two parts", "three parts"])
def test_what_is_proposed_fits_every_number_of_classes(split):
    offered = []
    for classes in range(2, 201):
        sides = {"none": {"": classes}, "two parts": {"train": classes, "test": 2}}
        sides["three parts"] = {"train": classes, "val": 2, "test": 2}
        known, studies = proposed(rows_of(sides[split]))
        if studies:
            offered.append(classes)
        for protocol, _, methods in studies:
            draw_first(known, protocol, methods)
    least = {"none": 8, "two parts": 4, "three parts": 2}[split]
    assert offered == list(range(least, 201))


@pytest.mark.parametrize(
    ("train", "keys"),
    [
        (7, ({"batch_size", "class_images_per_class"}, {"batch_size", "class_images_per_class"})),
        (8, (set(), {"class_images_per_class"})),
        (13, (set(), {"class_images_per_class"})),
        (31, (set(), {"class_images_per_class"})),
        (32, (set(), set())),
    ],
)
def test_a_batch_is_changed_exactly_where_it_must_be(train, keys):
    _, studies = proposed(rows_of({"train": train, "val": 2, "test": 2}))
    assert tuple(set(settings) for _, settings, _ in studies) == keys


@pytest.mark.parametrize(("train", "said"), [(7, True), (13, True), (32, False)])
def test_that_a_batch_must_be_changed_is_said(train, said):
    rows = rows_of({"train": train, "val": 2, "test": 2})
    met = [line for line in lines(rows, own_labels(rows, DIGEST), {}, "CHECK") if "--set" in line]
    assert bool(met) == said
    if train == 13:
        (line,) = met
        assert "a fold trains on 13 classes" in line
        assert line.endswith("--set class_images_per_class=4")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_batch_that_classes_do_not_fill_is_refused_before_anything(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for number in range(32):
        path = tmp_path / "mine" / f"c{number // 2:02d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    words = ["--root", "root", "--name", "mine"]
    assert main(["data", "prepare", "folder:mine", *words]) == DONE
    capsys.readouterr()
    study = [command, "--datasets", "mine", "--root", "root", "--methods", "ms,proxy_anchor"]
    small = ["--set", "batch_size=16", "--out", "out"]
    assert main([*study, *small]) == BAD_INPUT
    said = capsys.readouterr()
    assert "measuring" not in said.out
    assert "proxy_anchor on folder:mine@" in said.err
    assert "ms on" not in said.err
    assert "4 classes: a batch of 16 with 1 images a class needs 16" in said.err
    assert "Nothing was started." in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
