"""Own images are known by what is in them, whatever path leads to them."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.intake.prepare import prepare
from benchmark.study import aliases, datasets
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import Axes, key_of, make_cells
from benchmark.training.job import Job, _seed
from benchmark.training.splits import DataSource
from protocols.discovery import Registry, load
from protocols.errors import DataError, UnknownNameError
from tests import running

PROTOCOL = load("protocol", "toy")


def draw(folder, classes=16, images=4, first=0):
    """Write ``classes`` folders of small pictures, a colour each."""
    for label in range(classes):
        (folder / f"c{label:02d}").mkdir(parents=True)
        for number in range(images):
            rng = np.random.default_rng([first, label, number])
            colour = np.random.default_rng([first, label]).integers(0, 200, 3)
            pixels = (colour + rng.integers(0, 50, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"c{label:02d}" / f"{number}.png")
    return folder


def find(name, root, titles=()):
    prepare(name, root)
    (data,) = datasets.find((name,), Registry(), root, titles)
    return data


def cell_of(data):
    axes = Axes(("triplet",), (data,), ("tiny",), ("adam",))
    record = make_cells(axes, PROTOCOL, Registry())[0]
    return key_of(record, PROTOCOL, Registry(), None), record


def seeds_of(key):
    recipe, source = load("recipe", "adam"), DataSource("x", "", None, Path())
    job = Job(key, PROTOCOL, recipe, "search", 0, 0, {}, source, "cpu")
    return [_seed(job, purpose) for purpose in ("trunk", "method", "steps", "batches")]


@pytest.fixture
def photos(tmp_path):
    return draw(tmp_path / "mine" / "photos", classes=4, images=2)


def test_every_way_to_a_folder_is_the_same_dataset(photos, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    (tmp_path / "parent").symlink_to(photos.parent, target_is_directory=True)
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HOME", str(photos.parent))
    ways = [
        str(photos),
        f"{photos}/",
        "photos",
        "./photos/",
        "../mine/photos",
        f"{photos.parent}/./../mine//photos",
        os.path.relpath(photos),
        "~/photos",
        str(tmp_path / "link"),
        f"{tmp_path / 'parent'}/photos",
    ]
    met = [find(f"folder:{way}", tmp_path / "root") for way in ways]
    assert len({(data.title, data.digest) for data in met}) == 1
    keys, records = zip(*map(cell_of, met), strict=True)
    assert len(set(keys)) == 1
    assert all(record == records[0] for record in records)
    assert len({tuple(seeds_of(key)) for key in keys}) == 1


def test_moved_and_renamed_images_are_the_same_cells(photos, tmp_path):
    before = find(f"folder:{photos}", tmp_path / "root")
    moved = shutil.move(photos, tmp_path / "boots")
    after = find(f"folder:{moved}", tmp_path / "elsewhere")
    assert (before.title, after.title) == (
        f"folder:photos@{before.digest[:8]}",
        f"folder:boots@{before.digest[:8]}",
    )
    (key, record), (again, record_again) = cell_of(before), cell_of(after)
    assert (key.id, key.path, key.axes) == (again.id, again.path, again.axes)
    assert record.identity == record_again.identity
    assert seeds_of(key) == seeds_of(again)
    assert datasets.store_key(before.title, before.digest) == datasets.store_key(
        after.title, after.digest
    )
    # A study that knows the images goes on under the title that its records have.
    known = find(f"folder:{moved}", tmp_path / "elsewhere", [before.title])
    assert known.title == before.title
    assert cell_of(known) == (key, record)
    study = Study(tmp_path, PROTOCOL, (key,)).extend([again], PROTOCOL)
    assert [cell.id for cell in study.cells] == [key.id]


def test_a_list_of_the_same_images_is_the_same_dataset(photos, tmp_path):
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in sorted(photos.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    folder = find(f"folder:{photos}", tmp_path / "root")
    listed = find(f"csv:{tmp_path / 'list.csv'}", tmp_path / "root")
    assert listed.title == f"csv:list.csv@{folder.digest[:8]}"
    assert cell_of(listed)[0].id == cell_of(folder)[0].id
    names = (f"folder:{photos}", f"csv:{tmp_path / 'list.csv'}", f"folder:{photos}/")
    both = datasets.find(names, Registry(), tmp_path / "root")
    assert [data.title for data in both] == [folder.title]


def test_other_images_under_one_name_are_another_dataset(photos, tmp_path):
    other = draw(tmp_path / "yours" / "photos", classes=4, images=2, first=1)
    a, b = (find(f"folder:{path}", tmp_path / "root") for path in (photos, other))
    assert a.title != b.title
    (key, _), (other_key, _) = cell_of(a), cell_of(b)
    assert key.path.split("/")[0] != other_key.path.split("/")[0]
    assert seeds_of(key) != seeds_of(other_key)
    assert datasets.store_key(a.title, a.digest) != datasets.store_key(b.title, b.digest)


def test_a_name_that_ships_stays_what_seeds_and_folders_carry():
    (toy,) = datasets.find(("toy",), Registry(), None)
    assert toy.title == datasets.identity(toy.title) == "toy"
    key, record = cell_of(toy)
    assert key.path.startswith("toy/tiny/adam/triplet-")
    assert record.identity["dataset"] == "toy"
    with pytest.raises(DataError):
        datasets.find(("cub200",), Registry(), None)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/data/cub200", "folder:cub200@01234567"),
        ("/data/my photos (2)", "folder:my-photos-2@01234567"),
        ("/data/Größe.v2", "folder:Größe.v2@01234567"),
        ("/data/=cmd()|\u202eevil", "folder:cmd-evil@01234567"),
        ("/data/a@b", "folder:a-b@01234567"),
        ("/data/" + "x" * 99, f"folder:{'x' * 40}@01234567"),
        ("/", "folder:@01234567"),
    ],
)
def test_a_title_holds_a_word_of_the_path_and_nothing_that_leads_elsewhere(path, title):
    made = datasets._title(f"folder:{path}", "0123456789abcdef")
    assert made == title
    assert datasets.identity(made) == "own-01234567"
    key = CellKey("0" * 16, made, "tiny", "adam", "ms", "ms")
    assert key.path == "own-01234567/tiny/adam/ms-00000000"
    assert replace(key, dataset="folder:/an/old path").path.startswith("folder-an-old-path/")


def test_a_study_goes_on_after_its_images_moved_and_starts_alike_anywhere(tmp_path):
    """As a user runs it: three commands by three paths; records and tables are one study's."""
    words = (
        "--methods",
        "triplet",
        "--seeds",
        "1",
        "--trials",
        "1",
        "--jobs",
        "1",
        "--root",
        "root",
    )
    base = tmp_path / "a" / "b"
    photos = draw(base / "one" / "photos")
    os.symlink(photos, base / "link")
    prepare(f"folder:{photos}", base / "root")
    first = running.run(*words, "--datasets", f"folder:{photos}", out=base / "first")
    assert "photos@" in first
    running.run(*words, "--datasets", "folder:link", out=base / "second")
    assert running.truth(base / "first") == running.truth(base / "second")
    assert running.tables(base / "first") == running.tables(base / "second")
    assert running.queries(base / "first") == running.queries(base / "second")
    before = running.tables(base / "first")
    moved = shutil.move(photos, base / "boots")
    prepare(f"folder:{moved}", base / "root")
    again = running.run(*words, "--datasets", f"folder:{moved}", out=base / "first")
    assert "nothing left to do" in again
    assert running.tables(base / "first") == before
    held = [path.name for path in (base / "first" / "records").iterdir()]
    assert len(held) == 1
    assert held[0].startswith("own-")


@pytest.mark.parametrize(
    ("title", "name", "meant"),
    [
        ("emoji", "emoji", True),
        ("emoji", "emo", False),
        ("csv:shop@01234567", "csv:shop@01234567", True),
        ("csv:shop@01234567", "csv:shop", True),
        ("csv:shop@01234567", "shop", True),
        ("csv:shop@01234567", "01234567", False),
        ("folder:my-photos@01234567", "my-photos", True),
        ("folder:my-photos@01234567", "folder", False),
    ],
)
def test_what_people_call_a_dataset(title, name, meant):
    assert datasets.called(title, name) == meant


@pytest.mark.parametrize(
    ("root", "lead"),
    [
        (None, "no --root is given, "),
        ("my dat", "--root 'my dat' does not exist, "),
        ("bare", "--root bare holds no images of your own that have a name, "),
    ],
)
def test_a_name_of_own_images_without_their_root_gets_the_root_first(
    root, lead, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    place = None if root is None else Path(root)
    with pytest.raises(UnknownNameError) as caught:
        datasets.find(("things",), Registry(), place)
    said = str(caught.value)
    assert said.startswith(lead)
    assert "known in the --root in which they were prepared; no dataset 'things'" in said
    with pytest.raises(UnknownNameError, match=r"^no dataset 'emoij'\. Did you mean 'emoji'"):
        datasets.find(("emoij",), Registry(), place)
    with pytest.raises(UnknownNameError, match=r"^no dataset 'foldr'"):
        datasets.find(("foldr:photos",), Registry(), place)


def test_a_name_that_the_root_does_not_hold_is_met_with_those_it_does(photos, tmp_path):
    root = tmp_path / "root"
    prepare(f"folder:{photos}", root)
    aliases.keep("things", f"folder:{photos}", root)
    with pytest.raises(UnknownNameError, match=r"^no dataset 'thngs'\. Did you mean 'things'"):
        datasets.find(("thngs",), Registry(), root)
