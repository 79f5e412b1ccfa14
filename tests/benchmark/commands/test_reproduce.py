"""Published numbers beside ours: nothing run, nothing hidden."""

from dataclasses import replace

import pytest

from benchmark.cli import main
from benchmark.commands import reproduce
from benchmark.commands.plans import unmoved_by_bounds
from benchmark.running import outcomes, setup
from benchmark.study.folder import CellKey, Study
from benchmark.study.places import cell_id
from benchmark.study.records import CellRecord, ChoiceRecord, RunRecord
from benchmark.tables.beside_paper import compare
from protocols import paper
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.metrics import METRICS
from protocols.space import declared
from tests.proven import put

PAPERS_FILE = "52deb4733" + 55 * "0"  # a sha256 that begins as the paper's
TRUNK = f"bn_inception+{PAPERS_FILE[:8]}"
VALUES = (0.26, 0.265, 0.27)
PAPERS, STANDARD = load("protocol", "reality-check"), load("protocol", "standard")
PLACE = ("contrastive", "concatenated", "map_at_r")


def rows_of(study, key, values=VALUES):
    """Write a row's records; None for a run that failed."""
    choice = ChoiceRecord("x", key.id, "rule", 0, {}, 0.4)
    put(study, key, choice)
    for seed, value in enumerate(values):
        if value is None:
            failed = RunRecord(f"r{seed}", key.id, seed, {}, "failed", [], reason="non_finite")
            put(study, key, failed)
            continue
        scores = dict.fromkeys(METRICS, value)
        run = RunRecord(
            f"r{seed}", key.id, seed, {}, "done", [], separated=scores, concatenated=scores
        )
        put(study, key, run)


def key(trunk=TRUNK, recipe="paper", method="contrastive", dataset="cub200", repeat=0, **more):
    """Return a cell whose id follows from what it is made of."""
    cell = CellKey("", dataset, trunk, recipe, method, method, repeat=repeat, **more)
    return replace(cell, id=cell_id(made_of(cell)))


def made_of(cell):
    """Return a cell's identity: where it stands, and its weights' digest."""
    digits = cell.trunk.partition("+")[2]
    weights = f"sha256:{digits}{PAPERS_FILE[8:]}" if digits else "none"
    return {"axes": cell.axes, "repeat": cell.repeat, "weights": weights}


def make_study(out, *cells, protocol=None, repeats=(), values=VALUES):
    """Return a study with three runs of each cell, a little higher for each further one."""
    study = Study(out, protocol or PAPERS.derive(seeds=3), cells, repeats)
    study.save()
    for number, cell in enumerate((*cells, *repeats)):
        shifted = [None if value is None else value + 0.01 * number for value in values]
        rows_of(study, cell, shifted)
    return study


def with_records(study):
    """Write what the study's cells are made of, the weights' digest with it."""
    for cell in study.all_cells:
        place = (cell.dataset, cell.trunk, cell.recipe, cell.method, cell.row)
        put(study, cell, CellRecord(cell.id, "p", 3, *place, made_of(cell)))
    return study


def printed_of(study, capsys, dataset="cub200"):
    """Return what reproduce prints, as lines without double spaces."""
    assert main(["reproduce", "--dataset", dataset, "--out", str(study.out)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def study(tmp_path):
    return with_records(make_study(tmp_path, key()))


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
    assert row.published.value == published
    assert row.ours.mean == pytest.approx(0.265)
    # t(0.975, 2) = 4.302653, sd 0.005, n = 3, and 10 runs of the paper
    half = 4.302653 * 0.005 * (1 / 3 + 1 / 10) ** 0.5
    assert row.ours.high - 0.265 == pytest.approx(half, rel=1e-5)
    # 26.53 and 0.265 ± 0.014: it is inside, and three runs cannot tell more
    assert row.ours.low <= published <= row.ours.high
    assert row.told == "cannot tell"
    cells = reproduce._cells(row, several=False, notes=reproduce.Footnotes())
    assert cells[3:5] == ("3/3", "26.50 ± 1.42")
    assert cells[-1] == "cannot tell"
    others = compare("cub200", study)[0]
    assert {r.ours for r in others if r.method == "arcface"} == {None}
    assert apart == []


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (key(trunk="resnet50+IMAGENET1K_V1"), "trunk resnet50, not bn_inception"),
        (key(trunk="bn_inception"), "no pretrained weights"),
        (key(recipe="adam"), "recipe adam, not paper"),
    ],
)
def test_a_row_of_another_trunk_or_recipe_stands_apart_and_replaces_none(tmp_path, cell, said):
    for cells in ((key(), cell), (cell, key())):  # whichever comes last
        out = tmp_path / cells[0].id
        ((row,), (apart,)) = ours(make_study(out, *cells))
        assert row.ours.mean == pytest.approx(0.265 + 0.01 * cells.index(key()))
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
        (PAPERS.derive(precision="bf16"), {"precision bf16, not fp32"}),
        (
            PAPERS.derive(params="published", precision="bf16"),
            {"precision bf16, not fp32"},
        ),
        (
            replace(PAPERS, embedding_size=512, version=1),
            {"embedding_size 512, not 128"},
        ),
    ],
)
def test_a_study_of_other_rules_stands_apart(tmp_path, protocol, said, capsys):
    study = make_study(tmp_path, key(), protocol=protocol)
    found, (apart,) = ours(study)
    assert found == []
    assert said <= set(apart.differs)
    assert main(["reproduce", "--dataset", "cub200", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "what differs" in printed
    part = study.runs_asked(key()) > 3
    assert ("runs 3/10; " in printed) == part
    assert "contrastive" in printed.partition("missing:")[2]


def test_seeds_an_oracle_gap_and_another_datasets_pace_are_no_difference(tmp_path):
    protocol = PAPERS.derive(seeds=3, oracle_gap=True)
    protocol = replace(protocol, paces={"cub200": protocol.paces["cub200"]})
    ((row,), apart) = ours(make_study(tmp_path, key(), protocol=protocol))
    assert row.ours.runs == 3
    assert apart == []


def test_two_sets_of_weights_are_two_rows(tmp_path, capsys):
    study = make_study(tmp_path, key(), key(trunk="bn_inception+ffffffff"))
    rows, _ = ours(study)
    assert [row.trunk for row in rows] == [TRUNK, "bn_inception+ffffffff"]
    assert [row.ours.mean for row in rows] == pytest.approx([0.265, 0.275])
    name = reproduce._cells(rows[0], several=True, notes=reproduce.Footnotes())[0]
    assert name.startswith(f"contrastive ({TRUNK})")


def test_repeated_searches_give_their_variance(tmp_path, capsys):
    repeats = tuple(key(repeat=n) for n in (1, 2))
    study = make_study(tmp_path, key(), key(method="triplet"), repeats=repeats)
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
    assert "--weights FILE --root DIR --datasets cub200" in missing


SEVEN_FAILED = (*VALUES, *[None] * 7)


@pytest.mark.parametrize(
    ("values", "said"), [(VALUES, "3/10"), (SEVEN_FAILED, "3/10, 7 failed"), ([None] * 10, "0/10")]
)
def test_part_of_a_row_is_counted_and_is_no_reproduction(values, said, tmp_path, capsys):
    """What came through is no sample of all: no interval, no verdict, and it is missing."""
    study = with_records(make_study(tmp_path, key(), protocol=PAPERS, values=values))
    ((row,), apart) = ours(study)
    assert (row.told, row.ours.low, row.ours.high) == (None, None, None)
    assert row.runs.words.startswith(said)
    assert apart == []
    lines = printed_of(study, capsys)
    row_of = next(line for line in lines if line.startswith("contrastive MAP@R"))
    assert row_of.endswith(" – –")  # no difference, no verdict
    assert "±" not in " ".join(lines)
    assert not any("judged" in line for line in lines)
    assert said in row_of or (said.split(", ")[0] in row_of and "7 failed" in " ".join(lines))
    whole = next(line for line in lines if line.startswith("not whole: "))
    assert f"contrastive {said}" in whole
    assert ("fail again" in whole) == (None in values)
    assert "contrastive" in next(line for line in lines if line.startswith("missing: "))


def test_a_further_search_that_is_not_whole_leaves_its_row_part(tmp_path):
    repeats = (key(repeat=1),)
    study = make_study(tmp_path, key(), repeats=repeats, protocol=PAPERS.derive(seeds=3))
    study.record_path(repeats[0], study.run(repeats[0], 2)).unlink()
    ((row,), _) = ours(with_records(study))
    assert (row.runs.words, row.told) == ("5/6", None)


def test_runs_that_the_machine_lost_are_asked_for_again(tmp_path, capsys):
    study = with_records(make_study(tmp_path, key(), protocol=PAPERS.derive(seeds=4)))
    put(study, key(), RunRecord("r", key().id, 3, {}, "failed", [], reason="oom"))
    lines = printed_of(study, capsys)
    assert next(x for x in lines if x.startswith("missing: ")).endswith(" --retry-failed")
    assert "fail again" not in " ".join(lines)


def test_lines_are_counted_by_their_words_beside_what_chance_makes(tmp_path, capsys):
    """Six lines of a method: with the paper's 26.53 in mind, one is inside and five are far off."""
    lines = printed_of(with_records(make_study(tmp_path, key())), capsys)
    (tally,) = (line for line in lines if "judged" in line)
    assert tally.startswith("6 lines judged: 0 consistent, 5 different, 1 cannot tell.")
    assert "at most 0.3 would be different" in " ".join(lines)


def test_little_noise_near_the_papers_mean_is_consistent(tmp_path):
    values = [0.2650 + 0.0001 * seed for seed in range(3)]
    ((row,), _) = ours(with_records(make_study(tmp_path, key(), values=values)))
    assert row.told == "consistent"


@pytest.mark.parametrize("changes", [{}, {"trials": 2}, {"bounds": "narrow"}])
def test_the_papers_settings_are_compared_in_a_block_of_their_own(changes, tmp_path, capsys):
    protocol = PAPERS.derive(params="published", seeds=3, **changes)
    study = with_records(make_study(tmp_path, key(), key(method="arcface"), protocol=protocol))
    ((row,), apart) = ours(study)
    assert (row.told, row.runs.words) == ("cannot tell", "3/3")
    assert apart == []
    lines = printed_of(study, capsys)
    said = " ".join(lines)
    assert "Check, under the settings its searches chose · cub200, concatenated" in said
    assert "exact repetitions with the same settings" in said
    assert "searches vary" not in said
    assert "another form" not in said  # arcface then has the form of the paper's code
    command = next(line for line in lines if line.startswith("missing: "))
    assert "--params published" in command
    assert f"--out {tmp_path}" in command


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("arcface", "beyond 180 degrees"),
        ("ntxent", "1e-20"),
        ("ms_miner", "an anchor is no positive of its own"),
        ("pretrained", "fitted on training images"),
    ],
)
def test_a_row_in_another_form_than_the_papers_says_so(method, said, tmp_path, capsys):
    cells = (key(), key(method=method))
    lines = printed_of(with_records(make_study(tmp_path, *cells)), capsys)
    marked = {line.split()[0]: line.split()[1] for line in lines if " MAP@R " in line}
    assert marked["contrastive"] == "MAP@R"
    number = marked[method]
    assert said in " ".join(lines).rpartition(f" {number} ")[2].partition(" [")[0]


def test_weights_that_are_not_the_papers_get_no_verdict(tmp_path, capsys):
    study = with_records(make_study(tmp_path, key(trunk="bn_inception+0a1b2c3d")))
    ((row,), apart) = ours(study)
    assert (row.told, apart) == (None, [])
    assert row.ours.low is not None
    said = " ".join(printed_of(study, capsys))
    assert "weights with sha256 0a1b2c3d3" in said
    assert "bn_inception-52deb4733.pth begins with 52deb4733: no verdict" in said
    assert "judged" not in said


def test_a_study_that_does_not_hold_the_weights_digest_says_so(tmp_path, capsys):
    study = make_study(tmp_path, key())  # no cell.json
    assert {row.told for row in ours(study)[0]} == {None}
    assert "the study holds no sha256 of the weights' file" in " ".join(printed_of(study, capsys))


def test_how_a_published_mean_was_read_stands_below(tmp_path, capsys):
    study = with_records(
        make_study(tmp_path, key(dataset="sop"), key(dataset="cars196", method="contrastive"))
    )
    said = " ".join(printed_of(study, capsys, "sop"))
    assert "44.40 [1]" in said
    assert "[1] read off the pixels" in said
    assert "± 0.02 points" in said
    assert "10 runs is what the paper is taken to have made" in said
    lines = printed_of(study, capsys, "cars196")
    rows = [line for line in lines if line.startswith("contrastive ")]
    (doubtful,) = (row for row in rows if " 81.87 " in row)
    assert doubtful.endswith(" –")  # no word against it
    assert all(not row.endswith(" –") for row in rows if row != doubtful)
    mark = doubtful.split()[3]
    assert "DOUBTFUL: possible digit swap" in " ".join(lines).rpartition(f" {mark} ")[2]


def test_later_works_stand_under_their_own_names(study, capsys):
    lines = printed_of(study, capsys)
    later = [line for line in lines if line.startswith("later work: ")]
    assert [line.split(": ")[1].split(" ·")[0] for line in later] == [
        "within-pair mining",
        "SimPLE",
    ]
    papers = lines[: lines.index(later[0])]
    assert not any("SimPLE" in line or "within-pair" in line.lower() for line in papers)


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
        ("--methods ms,group,triplet", "ms, group, triplet on emoji, batch 32."),
        ("--protocol toy --methods contrastive --datasets toy", "contrastive on toy, batch 16."),
    ],
)
def test_published_settings_that_do_not_exist_are_refused_before_anything_starts(
    words, said, tmp_path, capsys
):
    out = tmp_path / "out"
    assert main([*RUN, *words.split(), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no setting of {said}" in line
    assert not out.exists()


def test_published_settings_that_exist_are_accepted():
    cells = [key(), key(method="ms_miner"), key(method="untrained", trains=False)]
    setup.check_published(cells, 32)
    setup.check_published(cells, 256)  # on cub200


@pytest.mark.parametrize(("dataset", "batch"), [("cub200", 64), ("cars196", 256)])
def test_settings_for_another_batch_are_not_taken_for_this_one(dataset, batch):
    with pytest.raises(InvalidInputError, match=f"contrastive on {dataset}, batch {batch}.*256"):
        setup.check_published([key(dataset=dataset)], batch)


def test_the_papers_settings_are_those_of_its_search_at_the_protocols_batch():
    """The margins of its table: 0.0961 at 32 and 0.1368 at 256."""
    for batch, margin in ((32, 0.0961), (256, 0.1368)):
        protocol = replace(PAPERS, batch_size=batch)
        found = outcomes.published(key(method="triplet"), protocol)
        assert found.settings["margin"] == pytest.approx(margin, abs=5e-5)


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
    cells = [key(method=name) for name in (*moved, "triplet", "group")]
    assert unmoved_by_bounds(cells, 32) == ["triplet on cub200", "group on cub200"]
    assert unmoved_by_bounds(cells, 64) == unmoved_by_bounds(cells, 32)
    # No first bounds are known of the searches at 256.
    assert unmoved_by_bounds(cells[:2], 256) == ["cosface on cub200", "arcface on cub200"]


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


def test_methods_are_refused_where_a_table_has_all_of_them(capsys, tmp_path):
    words = ["reproduce", "--methods", "ms", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "--methods with --table reality-check, which has all methods" in capsys.readouterr().err
    assert main([*words, "--table", "published"]) == 0
