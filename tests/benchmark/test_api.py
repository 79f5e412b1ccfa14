"""The module for Python and notebooks says what the command line and the files say."""

import configparser
import importlib
import shutil
from fnmatch import fnmatch

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import benchmark
from benchmark import api
from benchmark.cli import main
from protocols.errors import (
    BenchmarkError,
    DataError,
    InvalidInputError,
    StoreError,
    UnknownNameError,
)
from tests.drawing import ROOT


@pytest.mark.parametrize("name", ["summary", "runs", "trials", "pairs"])
def test_frames_are_those_of_the_csv_files(toy_study, name):
    written = pd.read_csv(toy_study / "tables" / f"{name}.csv")
    frame = getattr(api.open(toy_study), name)
    assert list(frame.columns) == list(written.columns)
    assert len(frame) == len(written) > 0
    for column in written.select_dtypes("float"):
        met = pd.to_numeric(frame[column]).to_numpy(float, na_value=np.nan)
        np.testing.assert_allclose(met, written[column], rtol=1e-9)


def test_the_frame_is_the_callers_own(toy_study):
    study = api.open(toy_study)
    mine = study.summary
    mine["mean"] = 0.0
    assert study.summary["mean"].max() > 0


def test_the_forest_names_every_method(toy_study, tmp_path):
    figure = api.open(toy_study).figure("forest")
    assert figure._repr_html_().startswith("<svg")
    for name in ("triplet", "ms", "untrained"):
        assert f"<!-- {name} -->" in figure.svg
    figure.save(tmp_path / "forest.svg")
    assert (tmp_path / "forest.svg").read_text(encoding="utf-8") == figure.svg
    with pytest.raises(UnknownNameError, match="forrest"):
        api.open(toy_study).figure("forrest")
    with pytest.raises(InvalidInputError, match="section 2"):
        api.open(toy_study).figure("forest", 2)


def test_a_notebook_shows_the_summary(toy_study):
    shown = api.open(toy_study)._repr_html_()
    assert shown.startswith("<table")
    assert "untrained" in shown


def test_a_kept_model_embeds_as_its_exported_file(toy_study, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    rows = api.open(toy_study).model("ms").embed(paths)
    to, npy = tmp_path / "ms.safetensors", tmp_path / "rows.npy"
    assert main(["export", "ms", "--out", str(toy_study), "--to", str(to)]) == 0
    assert main(["embed", str(to), *map(str, paths), "--to", str(npy)]) == 0
    np.testing.assert_array_equal(rows, np.load(npy))
    model = api.open(toy_study).model("ms")  # one path is a list of one, in a batch of one
    np.testing.assert_array_equal(model.embed(paths[0]), model.embed([str(paths[0])]))


def test_run_goes_on_with_a_study_and_opens_it(toy_study, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(toy_study, out)
    monkeypatch.chdir(tmp_path)
    study = api.run(protocol="toy", methods=["triplet", "ms"], out=out)
    assert set(study.summary["method"]) == {"triplet", "ms", "untrained"}
    assert study.out == out
    pd.testing.assert_frame_equal(study.runs, api.open(toy_study).runs)


def test_a_study_file_says_which_folder_is_opened(toy_study, tmp_path, monkeypatch):
    shutil.copytree(toy_study, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    text = 'protocol = "toy"\nmethods = ["triplet", "ms"]\nout = "mine"\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    study = api.run("study.toml")
    assert study.out.resolve() == tmp_path / "mine"
    pd.testing.assert_frame_equal(study.runs, api.open(toy_study).runs)


def test_options_are_typed_as_on_the_command_line():
    options = {"methods": ["a", "b"], "match_cost": True, "seeds": 2, "dry_run": False}
    assert api._typed("s.toml", {**options, "set": ["a=1", "b=2"], "out": None}) == [
        "s.toml", "--methods=a,b", "--match-cost", "--seeds=2", "--set=a=1", "--set=b=2",
    ]  # fmt: skip


def test_what_is_wrong_is_raised(tmp_path):
    with pytest.raises(BenchmarkError, match="--sedes"):
        api.run(sedes=3)
    with pytest.raises(StoreError, match="no study"):
        api.open(tmp_path)


def test_a_dry_run_prints_the_plan_and_opens_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert api.run(protocol="toy", methods="triplet", out=out, dry_run=True) is None
    assert "triplet" in capsys.readouterr().out
    assert not (out / "study.json").exists()


def test_time_that_is_up_before_anything_is_recorded_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"max_hours=1e-06: the time was up before anything"):
        api.run(protocol="toy", methods="triplet", out=tmp_path / "out", max_hours=1e-6)


def test_one_plugin_is_a_list_of_one(toy_study, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("", encoding="utf-8")
    study = api.open(toy_study)
    names = {study.model("ms", plugins=one).name for one in (plugin, str(plugin), [plugin])}
    assert len(names) == 1


def test_a_model_is_shown_by_its_name_and_asks_for_an_image(toy_study):
    model = api.open(toy_study).model("ms")
    assert repr(model) == f"Model(name={model.name!r})"
    with pytest.raises(DataError, match="no image was given"):
        model.embed([])


def test_the_frames_that_only_some_studies_have(toy_study, capsys):
    study = api.open(toy_study)
    for name in ("across", "searches", "variance", "references"):
        assert not len(getattr(study, name))
    assert main(["tables", "--out", str(toy_study)]) == 0
    capsys.readouterr()
    written = pd.read_csv(toy_study / "tables" / "costs.csv")
    assert list(study.costs.columns) == list(written.columns)
    np.testing.assert_allclose(study.costs["train_s"], written["train_s"])


def test_the_version_and_the_console_script(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"dml-benchmark {benchmark.__version__}\n"
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    name, _, target = declared["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert name == "dml-benchmark"
    assert callable(getattr(importlib.import_module(module), function))


def test_the_package_holds_every_file_and_says_that_it_is_typed():
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    patterns = declared["options.package_data"]
    roots = [ROOT / "benchmark", ROOT / "protocols"]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    left_out = []
    for path in files:
        name = path.relative_to(ROOT / "benchmark") if roots[0] in path.parents else None
        held = any(fnmatch(path.name, pattern) for pattern in patterns["*"].split()) or any(
            name and fnmatch(name.as_posix(), pattern) for pattern in patterns["benchmark"].split()
        )
        shown_online = path.name == "classes.png"  # in a README
        if not (held or shown_online or path.suffix == ".py" or "__pycache__" in path.parts):
            left_out.append(path.relative_to(ROOT).as_posix())
    assert left_out == []
    assert {root / "py.typed" for root in roots} <= set(files)  # PEP 561


def test_tables_prints_results_before_costs(toy_study, capsys):
    assert main(["tables", "--out", str(toy_study)]) == 0
    printed = capsys.readouterr().out
    assert 0 < printed.index("MAP@R") < printed.index("Cost of one run")
