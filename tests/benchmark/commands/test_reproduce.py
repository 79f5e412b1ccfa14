"""Published numbers beside ours: nothing run, nothing hidden."""

from dataclasses import replace

import pytest

from benchmark.cli import main
from benchmark.commands import reproduce
from benchmark.running import setup
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, RunRecord
from benchmark.tables.beside_paper import compare
from protocols import paper
from protocols.discovery import load
from protocols.metrics import METRICS
from protocols.space import declared
from tests.proven import put

TRUNK = "bn_inception+0a1b2c3d"
VALUES = (0.26, 0.265, 0.27)
PAPERS, STANDARD = load("protocol", "reality-check"), load("protocol", "standard")
PLACE = ("contrastive", "concatenated", "map_at_r")


def rows_of(study, key, values=VALUES):
    choice = ChoiceRecord("x", key.id, "rule", 0, {}, 0.4)
    put(study, key, choice)
    for seed, value in enumerate(values):
        scores = dict.fromkeys(METRICS, value)
        run = RunRecord(
            f"r{seed}", key.id, seed, {}, "done", [], separated=scores, concatenated=scores
        )
        put(study, key, run)


def key(number, trunk=TRUNK, recipe="paper", method="contrastive", **more):
    return CellKey(f"id{number}", "cub200", trunk, recipe, method, method, **more)


def make_study(out, *cells, protocol=None, repeats=()):
    """Return a study with three runs of each cell, a little higher for each further one."""
    study = Study(out, protocol or PAPERS, cells, repeats)
    study.save()
    for number, cell in enumerate((*cells, *repeats)):
        rows_of(study, cell, [value + 0.01 * number for value in VALUES])
    return study


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path, key(0))


def ours(study, place=PLACE):
    rows, apart = compare("cub200", study)
    return [r for r in rows if (r.method, r.embedding, r.metric) == place and r.ours], apart


def test_our_mean_stands_beside_the_papers(study):
    ((row,), apart) = ours(study)
    (published,) = (
        p.value
        for p in paper.table("cub200")
        if (p.method, p.embedding, p.metric) == ("contrastive", "concatenated_512", "map_at_r")
    )
    assert row.paper == published
    assert row.ours.mean == pytest.approx(0.265)
    # t(0.975, 2) = 4.302653, sd 0.005, n = 3, and 10 runs of the paper
    half = 4.302653 * 0.005 * (1 / 3 + 1 / 10) ** 0.5
    assert row.ours.high - 0.265 == pytest.approx(half, rel=1e-5)
    inside = row.ours.low <= published <= row.ours.high
    assert reproduce._cells(row, several=False)[-1] == ("yes" if inside else "no")
    others = compare("cub200", study)[0]
    assert {r.ours for r in others if r.method == "arcface"} == {None}
    assert apart == []


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (key(1, trunk="resnet50+IMAGENET1K_V1"), "trunk resnet50, not bn_inception"),
        (key(1, trunk="bn_inception"), "no pretrained weights"),
        (key(1, recipe="adam"), "recipe adam, not paper"),
    ],
)
def test_a_row_of_another_trunk_or_recipe_stands_apart_and_replaces_none(tmp_path, cell, said):
    for cells in ((key(0), cell), (cell, key(0))):  # whichever comes last
        out = tmp_path / cells[0].id
        ((row,), (apart,)) = ours(make_study(out, *cells))
        assert row.ours.mean == pytest.approx(0.265 + 0.01 * cells.index(key(0)))
        assert (apart.row, apart.trunk, apart.recipe) == ("contrastive", cell.trunk, cell.recipe)
        assert apart.differs == (said,)
        assert apart.mean == pytest.approx(0.265 + 0.01 * cells.index(cell))


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (STANDARD, {"fold_rule kfold, not mlrc", "search.sampler tpe, not gp"}),
        (PAPERS.derive(trials=5), {"search.trials 5, not 50"}),
        (
            PAPERS.derive(bounds="narrow"),
            {"search.bounds narrow, not wide"},
        ),
        (
            PAPERS.derive(params="published"),
            {"params published, not search"},
        ),
        (PAPERS.derive(precision="bf16"), {"precision bf16, not fp32"}),
        (
            replace(PAPERS, embedding_size=512, version=1),
            {"embedding_size 512, not 128"},
        ),
    ],
)
def test_a_study_of_other_rules_stands_apart(tmp_path, protocol, said, capsys):
    study = make_study(tmp_path, key(0), protocol=protocol)
    found, (apart,) = ours(study)
    assert found == []
    assert said <= set(apart.differs)
    assert main(["reproduce", "--dataset", "cub200", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "what differs" in printed
    assert "contrastive" in printed.partition("missing:")[2]


def test_seeds_an_oracle_gap_and_another_datasets_pace_are_no_difference(tmp_path):
    protocol = PAPERS.derive(seeds=3, oracle_gap=True)
    protocol = replace(protocol, paces={"cub200": protocol.paces["cub200"]})
    ((row,), apart) = ours(make_study(tmp_path, key(0), protocol=protocol))
    assert row.ours.runs == 3
    assert apart == []


def test_two_sets_of_weights_are_two_rows(tmp_path, capsys):
    study = make_study(tmp_path, key(0), key(1, trunk="bn_inception+ffffffff"))
    rows, _ = ours(study)
    assert [row.trunk for row in rows] == [TRUNK, "bn_inception+ffffffff"]
    assert [row.ours.mean for row in rows] == pytest.approx([0.265, 0.275])
    assert reproduce._cells(rows[0], several=True)[0] == f"contrastive ({TRUNK})"


def test_repeated_searches_give_their_variance(tmp_path, capsys):
    repeats = tuple(replace(key(n), repeat=n) for n in (1, 2))
    study = make_study(tmp_path, key(0), key(5, method="triplet"), repeats=repeats)
    ((row,), _) = ours(study)
    # means 0.265, 0.285 and 0.295: their mean, and t(0.975, 2) · sd · sqrt(1/3 + 1)
    assert (row.ours.searches, row.ours.runs) == (3, 9)
    assert row.ours.mean == pytest.approx(0.845 / 3)
    half = 4.302653 * 0.0152753 * (4 / 3) ** 0.5
    assert row.ours.high - row.ours.mean == pytest.approx(half, rel=1e-4)
    assert main(["reproduce", "--dataset", "cub200", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Of H searches" in printed
    assert "49 % only" in printed  # of triplet, which was searched once


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


RUN = ["run", "--dry-run", "--device", "cpu", "--params", "published"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--methods ms,group,triplet", "ms, group, triplet on emoji"),
        ("--protocol toy --methods contrastive --datasets toy", "contrastive on toy"),
    ],
)
def test_published_settings_that_do_not_exist_are_refused_before_anything_starts(
    words, said, tmp_path, capsys
):
    out = tmp_path / "out"
    assert main([*RUN, *words.split(), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no setting of {said}." in line
    assert not out.exists()


def test_published_settings_that_exist_are_accepted():
    cells = [key(0), key(1, method="ms_miner"), key(2, method="untrained", trains=False)]
    setup.check_published(cells)


def test_narrow_bounds_say_where_they_change_nothing(tmp_path, capsys):
    words = [
        "run",
        "--dry-run",
        "--protocol",
        "toy",
        "--bounds",
        "narrow",
        "--methods",
        "ms,triplet",
    ]
    assert main([*words, "--jobs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "changes nothing for ms on toy, triplet on toy: no narrower" in printed
    moved = ["cosface", "arcface"]  # their searches were widened on CUB
    cells = [key(n, method=name) for n, name in enumerate([*moved, "triplet", "group"])]
    assert setup.unmoved_by_bounds(cells) == ["triplet on cub200", "group on cub200"]


def test_without_a_dataset_all_of_the_papers_are_shown(tmp_path, capsys):
    assert main(["reproduce", "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    for dataset in ("cub200", "cars196", "sop"):
        assert f"A Metric Learning Reality Check · {dataset}" in said
    assert main(["reproduce", "--dataset", "cub"]) == 2
    assert "expected one of cub200, cars196, sop" in capsys.readouterr().err


def test_published_figures_break_no_word_at_60_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["reproduce", "--table", "published"]) == 0
    words = set(capsys.readouterr().out.split())
    for row in paper.published((), None):
        for name in ("dataset", "trunk", "embedding_dim", "caution", "value_percent"):
            assert set(row[name].split()) <= words | {part.rstrip(",:") for part in words}, row
        assert set(row["metric"].replace("_", " ").split()) <= words, row
    assert {"dataset", "metric", "per", "cent"} <= words
