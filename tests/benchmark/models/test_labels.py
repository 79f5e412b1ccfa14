"""Labels with two readings: asked of strangers' lists, known of those that this program wrote."""

import csv
import json

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.models import index
from benchmark.models.description import Description
from benchmark.models.images import Item, gather
from protocols.errors import DataError
from tests.benchmark.models.test_images import put

CLASSES = {"missing": ("none", "ok"), "twins": ("1", "01")}


@pytest.fixture(params=[*CLASSES])
def folder(request, tmp_path):
    """A folder of two classes of eight images, whose names would be asked about in a list."""
    for seed, name in enumerate(CLASSES[request.param]):
        for number in range(8):
            put(tmp_path / "nn" / name / f"{number}.png", 10 * seed + number)
    return tmp_path / "nn"


def scores(words, capsys):
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    said = " ".join(capsys.readouterr().out.split())
    return said[said.index("P@1") :]


def test_what_embed_wrote_scores_as_the_folder_it_is_of(exported, folder, tmp_path, capsys):
    model, to = exported(".safetensors"), tmp_path / "nn.npy"
    assert main(["embed", str(model), str(folder), "--to", str(to)]) == 0
    capsys.readouterr()
    whole = scores(["evaluate", model, folder], capsys)
    assert scores(["evaluate", to], capsys) == whole
    assert scores(["evaluate", model, tmp_path / "nn.csv"], capsys) == whole
    # Its reading is known of that file alone: one that somebody has written over is asked about.
    with (tmp_path / "nn.csv").open("a") as file:
        file.write("\n")
    assert main(["evaluate", str(to)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'nn.csv'}: label" in said
    assert "Say --labels text" in said
    assert scores(["evaluate", to, "--labels", "text"], capsys) == whole


def test_the_split_that_prepare_wrote_is_read_as_the_classes_prepared(
    exported, folder, tmp_path, capsys
):
    assert main(["data", "prepare", f"folder:{folder}", "--root", str(tmp_path / "root")]) == 0
    (split,) = (tmp_path / "root").rglob("split.csv")
    capsys.readouterr()
    scores(["evaluate", exported(".safetensors"), split], capsys)
    rows = list(csv.DictReader(split.read_text().splitlines()))
    items = gather([split])
    assert [item.label for item in items] == [row["label"] for row in rows]
    other = {"none": "ok", "ok": "none", "1": "01", "01": "1"}
    rows[0]["label"] = other[rows[0]["label"]]
    with split.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match=r"split\.csv: label"):
        gather([split])


def test_a_gallerys_list_is_read_as_it_was_written(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"a model")
    items = [Item(tmp_path / f"{name}.png", name) for name in ("1", "01", "none")]
    told = Description(8, 8, "angle", None)
    index.write(tmp_path / "g", tmp_path / "m.onnx", told, items, np.ones((3, 4), np.float32))
    assert gather([tmp_path / "g" / "images.csv"]) == items


def test_a_list_is_asked_about_by_its_name_and_answered_as_at_prepare(
    exported, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        put(tmp_path / f"{number}.png", number)
    (tmp_path / "a.csv").write_text("path,label\n0.png,1\n1.png,001\n2.png,2\n3.png,2\n")
    model = str(exported(".safetensors"))
    assert main(["index", model, "0.png", "--to", "gallery"]) == 0
    capsys.readouterr()
    for words in (
        ["embed", model, "a.csv", "--to", "rows.npy"],
        ["index", model, "a.csv", "--to", "again"],
        ["search", "gallery", "a.csv"],
        ["evaluate", model, "a.csv"],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert "a.csv: labels '001' and '1': two classes or one?" in said
        assert "Say --labels text (two) or --labels number (one)" in said
        for kind in ("text", "number"):
            assert main([*words, "--labels", kind]) == 0, capsys.readouterr().err
            capsys.readouterr()
    table = (tmp_path / "rows.csv").read_text().splitlines()
    labels = [row["label"] for row in csv.DictReader(table)]
    assert labels == ["1", "1", "2", "2"]
    assert main(["evaluate", "rows.npy", "--labels", "a.csv"]) == 2
    capsys.readouterr()
    one = scores(["evaluate", "rows.npy", "--labels", "a.csv", "--labels", "number"], capsys)
    assert one == scores(["evaluate", "rows.npy"], capsys)
    two = scores(["evaluate", "rows.npy", "--labels", "text", "--labels", "a.csv"], capsys)
    assert two != one
    assert json.loads((tmp_path / "rows.npy.json").read_text())["labels_sha256"]


def test_lists_are_asked_about_together_and_folders_are_not(tmp_path):
    for number, name in enumerate(("0.png", "1.png", "none/2.png")):
        put(tmp_path / name, number)
    (tmp_path / "a.csv").write_text("path,label\n0.png,1\n")
    (tmp_path / "b.csv").write_text("path,label\n1.png,01\n")
    places = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(DataError, match=r"a\.csv and .*b\.csv: labels '01' and '1'"):
        gather(places)
    assert [item.label for item in gather([*places, tmp_path / "none"], labels="number")][:2] == [
        "1",
        "1",
    ]
    assert len(gather([tmp_path / "a.csv", tmp_path])) == 4
    (tmp_path / "b.csv").write_text("path,label\n1.png,x\n")
    with pytest.raises(DataError, match=r"b\.csv: --labels number: 'x' is none"):
        gather(places, labels="number")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.npy", "--labels", "a.csv", "--labels", "b.csv"], "one file and one of text, number"),
        (["x.npy", "--labels", "text", "--labels", "number"], "one file and one of text, number"),
        (["x.pt2", "--into", "runs", "--labels", "text"], "there are none here"),
    ],
)
def test_answers_that_fit_no_question(words, said, capsys):
    assert main(["evaluate", *words]) == 2
    assert said in capsys.readouterr().err
