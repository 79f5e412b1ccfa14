"""Own images that are prepared again: what takes another's place, and what lies in the way."""

from pathlib import Path

import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.exit_codes import BAD_INPUT, DONE

CLASSES = "abcdefghijklmnop"


def put(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (seed % 256, seed // 256, 7)).save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with images of sixteen classes in ``mine``, from which commands are run."""
    monkeypatch.chdir(tmp_path)
    for number in range(4 * len(CLASSES)):
        put(Path("mine", CLASSES[number // 4], f"{number}.png"), number)
    return tmp_path


def said_by(capsys, *words):
    """Return what a command prints that succeeds."""
    assert main(list(words)) == DONE
    return capsys.readouterr().out


def digest_in(said):
    (found,) = [line.split()[1] for line in said.splitlines() if line.startswith("digest ")]
    return found


def test_other_images_under_a_path_are_said_where_they_are_prepared_and_studied(here, capsys):
    prepare = ["data", "prepare", "folder:mine", "--root", "root", "--name", "things"]
    study = ["run", "--protocol", "toy", "--datasets", "things", "--root", "root"]
    study += ["--set", "pace.max_steps=2", "--set", "pace.validate_every=2", "--seeds", "1"]
    study += ["--methods", "untrained", "--out", "out"]
    first = said_by(capsys, *prepare)
    assert "replaces" not in first + said_by(capsys, *prepare)
    assert "other images" not in said_by(capsys, *study) + said_by(capsys, *study)
    put(Path("mine", "a", "more.png"), 999)
    again = said_by(capsys, *prepare)
    old, new = digest_in(first)[:8], digest_in(again)[:8]
    line = f"- replaces 64 images, digest {old}: a study of them does not go on with these"
    assert line in again.splitlines()
    assert "replaces" not in said_by(capsys, *prepare)
    for words in (["plan", *study[1:]], study):
        (line,) = [line for line in said_by(capsys, *words).splitlines() if "other images" in line]
        assert line.startswith(f"out holds a study of folder:things@{old}, other images under")
        assert f"folder:things@{new}" in line
        assert "--out" in line


def test_two_folders_of_one_name_that_are_asked_for_together_need_no_word(here, capsys):
    for number in range(4 * len(CLASSES)):
        put(Path("deep", "mine", CLASSES[number // 4], f"{number}.png"), 500 + number)
    names = ["folder:mine", "folder:deep/mine"]
    for name in names:
        said_by(capsys, "data", "prepare", name, "--root", "root")
    study = ["run", "--protocol", "toy", "--root", "root", "--methods", "untrained"]
    study += ["--seeds", "1", "--out", "out", "--datasets", ",".join(names)]
    assert "other images" not in said_by(capsys, *study) + said_by(capsys, *study)


@pytest.mark.parametrize("root", ["data", ".", "deep/data"])
def test_prepared_images_inside_the_folder_are_none_of_its_images(here, monkeypatch, capsys, root):
    monkeypatch.chdir(here / "mine")
    prepare = ["data", "prepare", "folder:.", "--root", root, "--name", "things"]
    first = said_by(capsys, *prepare)
    again = said_by(capsys, *prepare)
    assert "64 images in 16 classes" in first
    assert "64 images in 16 classes" in again
    assert digest_in(first) == digest_in(again)
    assert "was prepared already" in again
    (folder,) = Path(root).glob("folder-*")
    assert f"- passed over {folder}: prepared images lie in it" in again.splitlines()
    put(Path("a", "more.png"), 999)
    assert "65 images in 16 classes" in said_by(capsys, *prepare)


def test_a_root_without_anything_in_it_is_no_empty_class(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "mine")
    Path("data").mkdir()
    Path("empty").mkdir()
    prepare = ["data", "prepare", "folder:.", "--root", "data"]
    assert main(prepare) == BAD_INPUT
    assert "class folders without an image, to be filled or removed: 'empty'." in (
        capsys.readouterr().err
    )
    Path("empty").rmdir()
    assert "64 images in 16 classes" in said_by(capsys, *prepare)


def test_a_class_folder_that_is_the_root_stays_a_class(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "mine")
    prepare = ["data", "prepare", "folder:.", "--root", "a"]
    first = said_by(capsys, *prepare)
    assert digest_in(first) == digest_in(said_by(capsys, *prepare))
    assert "64 images in 16 classes" in first
