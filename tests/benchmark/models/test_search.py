"""Galleries: exact against a plain loop, whole or none, and answers as table and page."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.commands import models
from benchmark.models import answers, index
from benchmark.models.description import Description
from benchmark.models.images import Item, cropped, gather, pixels_of
from benchmark.models.model import embed_items, load
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError, StoreError


def slow_order(rows, queries, by_angle):
    """Return every gallery position by nearness, one pair at a time in float64."""
    found = []
    for query in queries.astype(float):
        if by_angle:
            near = [-(row @ query) / np.linalg.norm(row) / np.linalg.norm(query) for row in rows]
        else:
            near = [np.sqrt(((row - query) ** 2).sum()) for row in rows]
        found.append((np.argsort(near), np.sort(near)))
    return found


@pytest.mark.parametrize("compare", ["angle", "distance"])
def test_it_finds_what_a_plain_loop_finds(compare, tmp_path):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 12)).astype(np.float32) * rng.uniform(0.1, 9, (200, 1)).astype(
        "f4"
    )
    queries = rng.normal(size=(7, 12)).astype(np.float32)
    model = tmp_path / "m.onnx"
    model.write_bytes(b"a model")
    items = [Item(tmp_path / f"{n}.png", f"class {n % 5}") for n in range(200)]
    told = Description(8, 8, compare, None, name="mine")
    index.write(tmp_path / "gallery", model, told, items, rows)
    gallery = index.read(tmp_path / "gallery")
    assert [(item.path, item.label) for item in gallery.items] == [(i.path, i.label) for i in items]
    found, near = gallery.nearest(queries, 20)
    for at, (order, values) in enumerate(slow_order(rows, queries, compare == "angle")):
        assert found[at].tolist() == order[:20].tolist()
        sign = -1 if compare == "angle" else 1
        assert np.allclose(near[at], sign * values[:20], atol=1e-5)
    assert gallery.nearest(queries, 999)[0].shape == (7, 200)
    with pytest.raises(InvalidInputError, match="queries have 3 numbers each, the gallery 12"):
        gallery.nearest(queries[:, :3], 1)


def test_a_gallery_that_is_damaged_or_not_there_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no gallery in .*benchmark index MODEL IMAGES"):
        index.read(tmp_path)
    model = tmp_path / "m.onnx"
    model.write_bytes(b"a model")
    told, items = Description(8, 8, "angle", None), [Item(tmp_path / "a.png")]
    for name in (index.VECTORS, index.IMAGES, index.ABOUT):
        index.write(tmp_path / "g", model, told, items, np.ones((1, 4), np.float32))
        file = tmp_path / "g" / name
        file.write_bytes(file.read_bytes()[:-3])
        with pytest.raises(StoreError, match="Make the gallery again"):
            index.read(tmp_path / "g")


def test_images_are_gathered_from_files_folders_and_lists(photos, tmp_path):
    whole = gather([photos])
    assert len(whole) == len(list(photos.rglob("*.png")))
    assert {item.label for item in whole} == {f"class {n}" for n in range(24, 48)}
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    (own / ".hidden").mkdir()
    (own / ".hidden" / "x.png").write_bytes(b"")
    (own / "notes.txt").write_text("no image")
    assert [item.path.name for item in gather([own])] == [item.path.name for item in whole]
    path = whole[0].path
    (tmp_path / "list.csv").write_text(f"path,label,part\n{path}, a ,query\n")
    assert gather([tmp_path / "list.csv", path]) == [Item(path, "a", "query"), Item(path)]
    (tmp_path / "bare.csv").write_text("file\nx.png\n")
    (tmp_path / "empty").mkdir()
    for place, words in (
        ("nowhere", "no such file or folder"),
        ("empty", "no image in it"),
        ("bare.csv", "expected a column path"),
    ):
        with pytest.raises(DataError, match=words):
            gather([tmp_path / place])


def test_a_list_may_have_any_form_that_data_prepare_takes(photos, tmp_path):
    path = next(photos.rglob("*.png"))
    text = f"Label; PATH;camera;part\nSt\u00fcck 1; {path};7;query\n"
    for name, content in (
        ("latin.csv", text.encode("latin-1")),
        ("utf.csv", text.encode("utf-8-sig")),
        ("tabs.csv", text.replace(";", "\t").encode()),
        ("commas.csv", f"path,label,part\n{path},St\u00fcck 1,query\n".encode("latin-1")),
    ):
        (tmp_path / name).write_bytes(content)
        assert gather([tmp_path / name]) == [Item(path, "St\u00fcck 1", "query")], name


def test_a_list_that_this_program_wrote_is_read_to_the_letter(tmp_path):
    odd = tmp_path / os.fsdecode(b"b\xfcro; a") / " 1.png"
    odd.parent.mkdir()
    Image.new("RGB", (4, 4)).save(odd)
    items = [Item(odd, os.fsdecode(b"b\xfcro; a"), "query")]
    (tmp_path / "own.csv").write_bytes(index.table(items))
    assert gather([tmp_path / "own.csv"]) == items


def test_embeddings_are_not_written_over_the_list_of_the_images(exported, photos, tmp_path, capsys):
    path, table = next(photos.rglob("*.png")), tmp_path / "shop.csv"
    table.write_text(f"path,label\n{path},a\n")
    words = ["embed", str(exported(".safetensors")), str(table), "--to", str(tmp_path / "shop.npy")]
    assert main(words) == 2
    assert "shop.csv, which lists the images here" in capsys.readouterr().err
    assert table.read_text() == f"path,label\n{path},a\n"
    assert main([*words[:-1], str(tmp_path / "shop.parquet.npy")]) == 0


def test_nobodys_own_list_is_written_over(exported, photos, tmp_path, capsys):
    model, images = str(exported(".safetensors")), str(photos)
    gallery = tmp_path / "gallery"
    assert main(["index", model, images, "--to", str(gallery)]) == 0
    assert main(["index", model, images, "--to", str(gallery)]) == 0  # its own, again
    own = {
        "embed": (tmp_path / "mine.csv", ["embed", model, images, "--to"], tmp_path / "mine.npy"),
        "index": (tmp_path / "i" / "images.csv", ["index", model, images, "--to"], tmp_path / "i"),
        "search": (
            *(tmp_path / "s" / "answers.csv", ["search", str(gallery), images, "--to"]),
            tmp_path / "s",
        ),
    }
    for path, words, to in own.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        assert main([*words, str(to)]) == 2
        assert "so is a file of your own, would be written over" in capsys.readouterr().err
        assert path.read_text() == "mine"
        assert len(list(path.parent.glob(f"{path.stem}*"))) == 1


def test_folders_of_parts_are_no_classes(photos, tmp_path):
    first, second = sorted(photos.rglob("*.png"))[:2]
    for place in ("split/train/a/1.png", "split/Test/b/2.png", "classes/train/1.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(first, tmp_path / place)
    (tmp_path / "classes" / "test").mkdir()
    shutil.copy(second, tmp_path / "classes" / "test" / "2.png")
    split = gather([tmp_path / "split"])
    assert sorted((item.label, item.part) for item in split) == [("a", "train"), ("b", "test")]
    classes = gather([tmp_path / "classes"])
    assert sorted((i.label, i.part) for i in classes) == [("", "test"), ("", "train")]


def test_of_a_list_that_names_tests_these_alone_are_scored(exported, photos, tmp_path, capsys):
    model, table = str(exported(".safetensors")), tmp_path / "split.csv"
    rows = [(path, path.parent.name) for path in sorted(photos.rglob("*.png"))]
    cut = len(rows) // 3
    lines = {"train": rows[:cut], "test": rows[cut:]}
    text = "".join(f"{path},{name},{part}\n" for part, of in lines.items() for path, name in of)
    table.write_text(f"path,label,part\n{text}")
    assert main(["evaluate", model, str(table)]) == 0
    printed = capsys.readouterr().out
    assert f"passed over, being no tests: {cut} of train" in printed
    tests = "".join(f"{path},{name}\n" for path, name in lines["test"])
    table.write_text(f"path,label\n{tests}")
    assert main(["evaluate", model, str(table)]) == 0
    alone = capsys.readouterr().out
    assert alone.splitlines()[1:] == printed.splitlines()[2:]


def test_an_image_is_cropped_as_an_evaluation_crops_it(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (255, 0, 0)
    Image.fromarray(wide).save(tmp_path / "a.png")
    told = Description(10, 8, "angle", None)
    pixels = cropped(pixels_of(Item(tmp_path / "a.png")), told)
    assert pixels.shape == (1, 3, 8, 8)
    assert (pixels[0, 0] > 250).all(), "the middle is red"
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        pixels_of(Item(tmp_path / "gone.png"))


def test_index_and_search_from_the_command_line(exported, photos, tmp_path, capsys):
    model = exported(".safetensors")
    gallery, to = tmp_path / "gallery", tmp_path / "answers"
    assert main(["index", str(model), str(photos), "--to", str(gallery)]) == 0
    query = sorted(photos.rglob("*.png"))[0]
    out = tmp_path / "elsewhere.png"
    out.write_bytes(query.read_bytes())
    words = ["search", str(gallery), str(out), str(query.parent), "--to", str(to), "--top", "4"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "answers.csv" in printed
    assert "answers.html" in printed
    rows = list(csv.DictReader(io.StringIO((to / "answers.csv").read_text())))
    first = [row for row in rows if row["query"] == str(out)]
    assert [row["rank"] for row in first] == ["1", "2", "3", "4"]
    assert first[0]["path"] == str(query)
    assert float(first[0]["cosine"]) == pytest.approx(1, abs=1e-5)
    own = [row for row in rows if row["query"] == str(query)]
    assert str(query) not in {row["path"] for row in own}, "a query is not its own answer"
    assert len(own) == 4
    page = (to / "answers.html").read_text()
    assert f"{len(rows) // 4} queries among" in page
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert page.count("data:image/jpeg") == len(rows) + len(rows) // 4


def test_a_page_marks_classes_and_quotes_names(tmp_path):
    picture = tmp_path / "<b>&.png"
    Image.new("RGB", (30, 20), "red").save(picture)
    about = index.About("m", "s", "<mine>", True, 4, 2, "", "")
    found = (
        answers.Answer(1, Item(picture, "red"), 0.5, right=True),
        answers.Answer(2, Item(tmp_path / "gone.png", "<x>"), 0.25, right=False),
    )
    page = answers.to_html(about, [answers.Asked(Item(picture, "red"), found)]).decode()
    assert "<b>&.png" not in page
    assert "&lt;mine&gt;" in page
    assert page.count('class="right"') == page.count('class="wrong"') == 1
    assert "Of 1 query with a known class, 1 has it in first place" in page
    assert "gone.png: No such file" in page


def test_queries_need_the_gallerys_own_model(exported, photos, tmp_path, capsys):
    gallery = tmp_path / "gallery"
    one = str(sorted(photos.rglob("*.png"))[0])
    assert main(["index", str(exported(".safetensors")), str(photos), "--to", str(gallery)]) == 0
    other = ["--model", str(exported(".pt2"))]
    assert main(["search", str(gallery), one, "--to", str(tmp_path / "a"), *other]) == 2
    assert "is not the model that embedded" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("form", [".npy", ".parquet"])
def test_embeddings_come_with_their_paths(form, exported, photos, tmp_path, capsys):
    to = tmp_path / f"rows{form}"
    assert main(["embed", str(exported(".pt2")), str(photos), "--to", str(to)]) == 0
    items = gather([photos])
    expected = embed_items(load(exported(".pt2"), Registry()), items)
    if form == ".npy":
        rows = np.load(to)
        table = list(csv.DictReader(io.StringIO(to.with_suffix(".csv").read_text())))
        paths = [row["path"] for row in table]
        assert [row["label"] for row in table] == [item.label for item in items]
    else:
        import pandas as pd

        frame = pd.read_parquet(to)
        rows, paths = np.stack(frame["embedding"].to_list()), frame["path"].tolist()
    assert np.array_equal(rows, expected)
    assert paths == [str(item.path.resolve()) for item in items]
    assert main(["embed", str(exported(".pt2")), str(photos), "--to", "x.csv"]) == 2
    assert "ends in .npy or .parquet" in capsys.readouterr().err


ODD = os.fsdecode(b"caf\xe9")  # Latin-1, which is no UTF-8


@pytest.fixture
def odd_photo(tmp_path):
    """An image whose file and folder have names that are no text."""
    path = tmp_path / "photos" / ODD / f"{ODD}.png"
    try:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (30, 20), "red").save(path.parent / "plain.png")
        (path.parent / "plain.png").rename(path)
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has only names that are text")
    return path


def test_a_page_shows_names_that_are_no_text_as_escapes(odd_photo):
    item, gone = Item(odd_photo, ODD), Item(odd_photo.with_name(f"{ODD}2.png"), ODD)
    about = index.About("m", "s", "mine", True, 4, 2, "", "")
    found = (answers.Answer(1, item, 0.5, right=True), answers.Answer(2, gone, 0.2, right=True))
    page = answers.to_html(about, [answers.Asked(item, found)]).decode()
    where = str(odd_photo.parents[1])
    assert page.count(f'title="{where}/caf\\udce9/caf\\udce9.png"') == 2
    assert "caf\\udce92.png: No such file" in page
    assert "<h2>caf\\udce9.png<br>" in page


def test_a_command_finds_and_lists_images_whose_names_are_no_text(exported, odd_photo, tmp_path):
    model = tmp_path / ODD / "model.safetensors"
    model.parent.mkdir()
    for end in ("", ".json"):
        made = exported(".safetensors")
        shutil.copy(made.with_name(made.name + end), f"{model}{end}")
    gallery, to, photos = tmp_path / "gallery", tmp_path / "answers", odd_photo.parents[1]
    assert main(["index", str(model), str(photos), "--to", str(gallery)]) == 0
    assert main(["search", str(gallery), str(photos), "--to", str(to)]) == 0
    assert "caf\\udce9.png" in (to / "answers.html").read_text()


def test_parquet_holds_what_the_other_form_holds(odd_photo, tmp_path):
    """Paths, labels, parts and the rule of comparison; of what is no text the escapes."""
    from pyarrow import parquet

    items = [Item(odd_photo, ODD, "query"), Item(tmp_path / "b.png", "café", "gallery")]
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    to = tmp_path / "rows.parquet"
    assert models._write_rows(to, items, rows, "distance") == [to]
    table = parquet.read_table(to)
    found = table.to_pydict()
    assert list(found) == ["path", "label", "part", "embedding"]
    odd = os.path.relpath(found["path"][0], tmp_path.resolve())
    assert odd == "photos/caf\\udce9/caf\\udce9.png"
    assert found["label"] == ["caf\\udce9", "café"]
    assert found["part"] == ["query", "gallery"]
    assert found["embedding"] == rows.tolist()
    assert table.schema.metadata[b"compare"] == b"distance"
    models._write_rows(to, [Item(odd_photo)], rows[:1], "angle")
    assert parquet.read_schema(to).names == ["path", "embedding"]
    assert parquet.read_schema(to).metadata == {b"compare": b"angle"}


def test_what_a_gallery_was_made_with_is_written_down(exported, photos, tmp_path):
    assert main(["index", str(exported(".pt2")), str(photos), "--to", str(tmp_path / "g")]) == 0
    about = json.loads((tmp_path / "g" / index.ABOUT).read_text())
    assert Path(about["model"]) == exported(".pt2").resolve()
    assert (about["name"], about["by_angle"], about["size"]) == ("ms", True, 64)


def test_a_rectangle_is_cropped_as_an_evaluation_crops_it(tmp_path):
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[10:30] = (0, 255, 0)
    Image.fromarray(tall).save(tmp_path / "a.png")
    told = Description(10, (8, 4), "angle", None)
    pixels = cropped(pixels_of(Item(tmp_path / "a.png")), told)
    assert pixels.shape == (1, 3, 8, 4)
    assert (pixels[0, 1] > 250).all(), "the middle is green"
