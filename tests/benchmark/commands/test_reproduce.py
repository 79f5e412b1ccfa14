"""Published numbers beside ours: nothing run, nothing hidden."""

import pytest

from benchmark.cli import main
from benchmark.commands import reproduce
from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, RunRecord
from protocols import paper
from protocols.discovery import load
from protocols.metrics import METRICS
from protocols.space import declared


@pytest.fixture
def study(tmp_path):
    cell = CellKey("id", "cub200", "bn_inception", "paper", "contrastive", "contrastive")
    study = Study(tmp_path, load("protocol", "reality-check"), (cell,))
    study.save()
    choice = ChoiceRecord("x", "id", "rule", 0, {}, 0.4)
    records.write(study.record_path(cell, choice), choice)
    for seed, value in enumerate((0.26, 0.265, 0.27)):
        scores = dict.fromkeys(METRICS, value)
        run = RunRecord(
            f"r{seed}", "id", seed, {}, "done", [], separated=scores, concatenated=scores
        )
        records.write(study.record_path(cell, run), run)
    return study


def test_our_mean_stands_beside_the_papers(study):
    rows = reproduce.compare("cub200", study)
    place = ("contrastive", "concatenated", "map_at_r")
    (row,) = (r for r in rows if (r.method, r.embedding, r.metric) == place)
    (published,) = (
        p.value
        for p in paper.table("cub200")
        if (p.method, p.embedding, p.metric) == ("contrastive", "concatenated_512", "map_at_r")
    )
    assert row.paper == published
    assert row.ours == pytest.approx(0.265)
    low, high = row.interval
    # t(0.975, 2) = 4.302653, sd 0.005, n = 3
    assert high - 0.265 == pytest.approx(4.302653 * 0.005 / 3**0.5, rel=1e-5)
    assert row.cells()[-1] == ("yes" if low <= published <= high else "no")
    assert {r.ours for r in rows if r.method == "arcface"} == {None}


def test_what_is_missing_is_named_with_its_command(study, capsys):
    assert main(["reproduce", "--dataset", "cub200", "--out", str(study.out)]) == 0
    printed = capsys.readouterr().out
    missing = next(line for line in printed.splitlines() if line.startswith("missing"))
    assert "arcface" in missing
    assert "contrastive" not in missing


def test_the_papers_settings_come_with_the_command_that_runs_them(capsys, tmp_path):
    words = ["reproduce", "--table", "best-hyperparameters", "--dataset", "cub200"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "0.0961" in printed
    assert "--params published" in printed


def test_published_figures_carry_their_warning(capsys):
    assert main(["reproduce", "--table", "published", "--methods", "bfe"]) == 0
    printed = capsys.readouterr().out
    assert "BDB" in printed
    assert "selected on test classes" in printed


@pytest.mark.parametrize(
    ("method", "title"),
    [
        ("bfe", "BDB"),
        ("horde", "HORDE"),
        ("cgd", "CGD"),
        ("divide_conquer", "Divide and Conquer"),
        ("group", "Group"),
        ("triplet_hard", "BatchHardTriplet"),
    ],
)
def test_every_method_of_a_paper_has_its_figures_with_trunk_and_size(method, title):
    rows = paper.published([method])
    assert rows
    assert all(title in row["method"] for row in rows)
    assert all(row["trunk"] and float(row["value_percent"]) > 0 for row in rows)
    assert any(row["embedding_dim"] for row in rows)
    chosen_on_test = "epoch chosen on test"
    assert all((chosen_on_test in row["caution"]) is (method != "triplet_hard") for row in rows)


def test_cropped_images_are_told_apart():
    rows = paper.published(["cgd"])
    cautions = {row["method"]: row["caution"] for row in rows}
    assert "cropped images" in cautions["CGD MG, bounding-box crops"]
    assert "cropped images" in cautions["CGD SG bbox-cropped"]
    assert "probably cropped" in cautions["CGD (MG/SG)"]
    assert "cropped" not in cautions["CGD SG uncropped"]
    assert "cropped" not in cautions["CGD (SG/GS)"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--dataset emoji", "expected one of cub200"),
        ("--table published --methods nothing_like_it", "no published figure"),
        ("--table no_such", "invalid choice"),
    ],
)
def test_bad_input_is_one_line(words, part, capsys):
    assert main(["reproduce", *words.split()]) == 2
    assert part in capsys.readouterr().err


def test_published_settings_exist_for_the_papers_methods():
    for method in paper.METHODS:
        if method != "pretrained":
            for dataset in paper.DATASETS:
                old_form = paper.METHODS[method].made_with  # a search does not take it
                cls = load("method", method)
                space = {**cls.space(dataset), **{name: declared(cls)[name] for name in old_form}}
                for name, value in paper.best(method, dataset).items():
                    assert space[name].accept(value) == value, (method, dataset, name)
