"""Which images a model is shown, and what is understood of their classes and parts."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.models import index
from benchmark.models.images import Item, gather, read_list
from protocols.errors import DataError


def put(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def told(items):
    return sorted((item.path.name, item.label, item.part) for item in items)


def test_what_programs_leave_beside_pictures_is_not_embedded(tmp_path):
    for name in ("a/1.png", "a/@eaDir/1.png", "@eaDir/2.png", "__MACOSX/3.png", ".git/4.png"):
        put(tmp_path / name)
    assert [item.path for item in gather([tmp_path])] == [tmp_path / "a" / "1.png"]


@pytest.mark.parametrize(
    "text",
    [
        "path,label,part\n0.png,a,Train\n1.png,b, TEST \n",
        "path, label, part\n0.png, a, train\n1.png, b, test\n",
        "\ufeffPath;Label;Part\r\n0.png;a;Train\r\n1.png;b;Test\r\n",
        "part,path,label\nTrain,0.png,a\ntest,./1.png,b\n",
    ],
)
def test_parts_of_a_list_are_understood_as_prepare_does(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, "utf-8", newline="")
    items = read_list(tmp_path / "list.csv")
    assert told(items) == [("0.png", "a", "train"), ("1.png", "b", "test")]
    assert items[1].path == tmp_path / "1.png"


def test_a_part_that_is_none_is_refused_with_the_nearest(tmp_path):
    (tmp_path / "list.csv").write_text("path,label,part\n0.png,a,training\n")
    with pytest.raises(DataError, match=r"list\.csv: part 'training'.*Did you mean 'train'"):
        read_list(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("path,label\n,a\n0.png,b\n")
    with pytest.raises(DataError, match="rows without a path: 1 of 2"):
        read_list(tmp_path / "list.csv")


def test_a_list_of_this_program_comes_back_as_it_was(tmp_path):
    items = [Item(tmp_path / " x.png", "a", "gallery"), Item(tmp_path / "y.png", "", "query")]
    for some in (items, [Item(item.path) for item in items]):
        (tmp_path / "own.csv").write_bytes(index.table(some))
        assert read_list(tmp_path / "own.csv") == some


def test_training_images_of_a_list_are_not_scored(exported, photos, tmp_path, capsys):
    rows = [(path, path.parent.name) for path in sorted(photos.rglob("*.png"))]
    cut = len(rows) // 2
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "part"))
        writer.writerows((*row, "Train" if n < cut else "Test") for n, row in enumerate(rows))
    assert main(["evaluate", str(exported(".safetensors")), str(tmp_path / "list.csv")]) == 0
    assert f"passed over, being no tests: {cut} of train" in capsys.readouterr().out


def test_folders_that_are_linked_are_embedded_too(tmp_path):
    put(tmp_path / "mine" / "a" / "1.png")
    put(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "mine" / "b").symlink_to("../elsewhere", target_is_directory=True)
    (tmp_path / "mine" / "a" / "circle").symlink_to("..", target_is_directory=True)
    assert told(gather([tmp_path / "mine"])) == [("1.png", "a", ""), ("2.png", "b", "")]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    put(tmp_path / "a" / "1.png")

    def scandir(place):
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(DataError, match="Permission denied"):
        gather([tmp_path])


def test_of_folders_in_folders_nobody_guesses_the_class(tmp_path):
    for seed, name in enumerate(("hats/000/1.png", "hats/001/2.png", "bags/000/3.png")):
        put(tmp_path / name, seed)
    with pytest.raises(DataError, match=r"--class-level 1: 2, --class-level 2: 2"):
        gather([tmp_path])
    assert [label for _, label, _ in told(gather([tmp_path], 1))] == ["hats", "hats", "bags"]
    assert [label for _, label, _ in told(gather([tmp_path], 2))] == ["000", "001", "000"]


def test_every_command_takes_the_level_of_the_class(exported, photos, tmp_path, capsys):
    for folder in ("class 24", "class 25"):
        shutil.copytree(photos / folder, tmp_path / "deep" / "kind" / folder)
    model, deep = str(exported(".safetensors")), str(tmp_path / "deep")
    to = str(tmp_path / "deep.npy")
    for words in (["evaluate", model, deep], ["embed", model, deep, "--to", to]):
        assert main(words) == 2
        assert "which folder is the class" in capsys.readouterr().err
        assert main([*words, "--class-level", "2"]) == 0
        capsys.readouterr()
    labels = {
        row["label"] for row in csv.DictReader((tmp_path / "deep.csv").read_text().splitlines())
    }
    assert labels == {"class 24", "class 25"}
    assert main(["evaluate", to, "--class-level", "2"]) == 2
    assert "there are none here" in capsys.readouterr().err


def test_folders_of_a_split_in_other_words_are_no_classes(tmp_path):
    for name in ("train/a/1.png", "validation/b/2.png", "test/c/3.png"):
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"part 'validation'.*Did you mean 'val'"):
        gather([tmp_path])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("0.png,NA,\n1.png,a,\n", "label 'NA': the name of a class, or a label that is missing"),
        ("0.png,1,\n1.png,001,\n", "labels '001' and '1': two classes or one"),
        ("0.png,a,test\n./0.png,a,test\n3.png,b,train\n", r"listed more than once: '.*0\.png'"),
        ("0.png,a,query\n0.png,a,gallery\n3.png,b,train\n", "query and gallery at once"),
        ("0.png,a,test\n1.png,b,\n3.png,b,train\n", r"no part, but others.*: '.*1\.png'"),
        ("0.png,a,query\n2.png,a,gallery\n3.png,b,train\n", r"'.*0\.png' is '.*2\.png'"),
    ],
)
def test_what_prepare_refuses_is_refused_of_a_list_to_be_scored(
    exported, tmp_path, capsys, rows, words
):
    for number in (0, 1, 3):
        put(tmp_path / f"{number}.png", number)
    shutil.copy(tmp_path / "0.png", tmp_path / "2.png")
    path = tmp_path / "list.csv"
    path.write_text(f"path,label,part\n{rows}")
    np.save(tmp_path / "list.npy", np.eye(rows.count("\n"), 4, dtype=np.float32))
    for command in (
        ["data", "prepare", f"csv:{path}", "--root", str(tmp_path / "root")],
        ["evaluate", str(exported(".safetensors")), str(path)],
        ["evaluate", str(tmp_path / "list.npy")],
    ):
        assert main(command) == 2, command
        assert re.search(words, capsys.readouterr().err), command


def test_places_may_be_named_as_for_prepare(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "my photos" / "a" / "1.png")
    (tmp_path / "my list.txt").write_text("path;label\nmy photos/a/1.png;b\n")
    there = tmp_path / "my photos" / "a" / "1.png"
    for place in (f"csv:{tmp_path}/my list.txt", "csv:~/my list.txt"):
        assert gather([Path(place)]) == [Item(there, "b")]
    for place in (f"folder:{tmp_path}/my photos", "folder:~/my photos"):
        assert gather([Path(place)]) == [Item(there, "a")]
    with pytest.raises(DataError, match=r"^.*gone\.csv: .*No such file"):
        gather([Path("csv:gone.csv")])
    for place in ("folder:gone", f"folder:{tmp_path}/my list.txt"):
        with pytest.raises(DataError, match=f"{place[7:]}: no such folder"):
            gather([Path(place)])


def test_a_list_that_is_named_as_for_prepare_is_not_written_over(exported, tmp_path, capsys):
    put(tmp_path / "1.png")
    (tmp_path / "shop.csv").write_text("path,label\n1.png,a\n")
    to = str(tmp_path / "shop.npy")
    words = ["embed", str(exported(".safetensors")), f"csv:{tmp_path}/shop.csv", "--to", to]
    assert main(words) == 2
    assert "shop.csv, which lists the images here" in capsys.readouterr().err


def test_embeddings_take_a_list_that_is_named_as_for_prepare(tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "my list.csv").write_text("path,label\n0.png,a\n1.png,a\n2.png,b\n3.png,b\n")
    words = ["evaluate", str(tmp_path / "rows.npy"), "--labels", f"csv:{tmp_path}/my list.csv"]
    assert main(words) == 0, capsys.readouterr().err


def test_all_pictures_that_cannot_be_read_are_named_at_once(exported, tmp_path, capsys):
    for number in range(3):
        put(tmp_path / "some" / f"{number:02}.png", number)
    for number in range(3, 17):
        (tmp_path / "some" / f"{number:02}.png").write_bytes(b"no picture")
    gallery = str(tmp_path / "gallery")
    model, some = str(exported(".safetensors")), str(tmp_path / "some")
    assert main(["index", model, f"{some}/00.png", "--to", gallery]) == 0
    capsys.readouterr()
    for words in (
        ["embed", model, some, "--to", str(tmp_path / "some.npy")],
        ["search", gallery, some, "--to", str(tmp_path / "answers")],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err.splitlines()
        assert f"14 of 17 images cannot be read, {some}/03.png the first of them" in said[0]
        assert [line.partition(": ")[0] for line in said[1:11]] == [
            f"  {some}/{number:02}.png" for number in range(3, 13)
        ]
        assert said[11:] == ["  and 4 more"]
    assert not (tmp_path / "some.npy").exists()
    for number in range(4, 17):
        (tmp_path / "some" / f"{number:02}.png").unlink()
    assert main(["embed", model, some, "--to", str(tmp_path / "some.npy")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
