"""Models and embeddings of any origin, scored like a study's own, and their rows in its table."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from benchmark.cli import main
from benchmark.commands import evaluation
from benchmark.engines.holding import lock
from benchmark.models import tested
from benchmark.models.evaluation import score_items
from benchmark.models.images import Item
from benchmark.models.tested import test_images as images_of
from benchmark.report import page
from benchmark.study import checksums, given, references
from benchmark.study.folder import load_study
from benchmark.study.sides import read_labels
from benchmark.study.weights import best_run
from benchmark.tables import formats
from benchmark.tables.frames import make_tables
from benchmark.training.splits import _packed
from protocols import metrics
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import digest
from tests.benchmark import rows as submissions
from tests.benchmark.intake.test_own import folder
from tests.benchmark.tables.test_frames import key, make


@pytest.fixture
def out(toy_study, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(toy_study, folder)
    return folder


def embeddings_of_test(out, folder):
    """Write what a peer would give: embeddings of the test images in an order of its own."""
    study = load_study(out)
    test = images_of(study, study.cells[0], Registry())
    order = np.random.default_rng(1).permutation(len(test))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(test), 6)).astype(np.float32) + test.labels[:, None] % 7
    np.save(folder / "peer.npy", rows[order])
    lines = [f"{n}.png,{test.labels[n]}" for n in order]
    (folder / "peer.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return rows, test.labels


def test_labelled_images_score_as_the_metrics_say():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(25), 4)
    rows = rng.normal(size=(100, 8)).astype(np.float32) + 0.5 * labels[:, None]
    items = [Item(f"{n}", f"c{label}") for n, label in enumerate(labels)]
    for by_angle in (True, False):
        scored = score_items(rows, items, by_angle=by_angle)
        expected = metrics.retrieval(rows, labels, normalize=by_angle)
        assert {name: scored.metrics[name] for name in expected} == expected
        assert scored.low["map_at_r"] < expected["map_at_r"] < scored.high["map_at_r"]
        assert (scored.classes, scored.queries, scored.excluded) == (25, 100, 0)


def test_queries_are_searched_in_the_gallery_alone():
    rows = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    parts = ["query", "gallery", "gallery", "query"]
    items = [Item("x", label, part) for label, part in zip("aabb", parts, strict=True)]
    assert score_items(rows, items, by_angle=True).metrics["precision_at_1"] == 1.0
    assert score_items(rows, items, by_angle=True).low == {}, "no interval from two classes"
    items[0] = Item("x", "a", "query")
    items[1] = Item("x", "a", "")
    with pytest.raises(InvalidInputError, match="expected query and gallery for every image"):
        score_items(rows, items, by_angle=True)
    with pytest.raises(InvalidInputError, match="1 of 4 images have no label"):
        score_items(rows, [*items[:3], Item("x")], by_angle=True)
    with pytest.raises(InvalidInputError, match="4 embeddings for 3 labels"):
        score_items(rows, items[:3], by_angle=True)


def test_a_model_of_the_study_measured_again_scores_what_its_run_scored(exported, out, capsys):
    words = ["evaluate", str(exported(".safetensors")), "--into", str(out), "--name", "again"]
    assert main(words) == 0
    assert capsys.readouterr().err == "", "trained on the study's own training images"
    study = load_study(out)
    cell = next(cell for cell in study.cells if cell.row == "ms")
    (found,) = references.read(study)
    assert found.metrics == best_run(study, cell).concatenated
    assert found.opening == "test images of toy opened to measure ms.safetensors, not trained here"


def test_a_peers_embeddings_stand_in_the_table_as_a_reference(out, tmp_path, capsys):
    before = {p.name: p.read_bytes() for p in (out / "tables").glob("*.csv")}
    rows, labels = embeddings_of_test(out, tmp_path)
    words = ["evaluate", str(tmp_path / "peer.npy"), "--into", str(out), "--compare", "distance"]
    assert main(words) == 0
    assert "peer stands as a reference" in capsys.readouterr().out
    frame = pd.read_csv(out / "tables" / "references.csv").set_index("metric")
    expected = metrics.retrieval(rows, labels, normalize=False)
    assert {name: frame["value"][name] for name in expected} == pytest.approx(expected)
    assert (
        frame["test_ci_low"]["map_at_r"] < expected["map_at_r"] < frame["test_ci_high"]["map_at_r"]
    )
    after = {p.name: p.read_bytes() for p in (out / "tables").glob("*.csv")}
    assert {name: after[name] for name in before} == before, "no other table moves"
    tables = make_tables(load_study(out))
    printed = formats.to_format(tables, "md")["headline.md"].decode()
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert lines[-1].startswith("| peer (reference) |"), "after all rows that were trained"
    assert "peer: reference measured from peer.npy, not trained here, not ranked" in printed
    assert len({line.count("|") for line in lines}) == 1
    html = page.render(tables)
    assert "reference, not trained here" in html
    assert page.render(tables) == html


def test_embeddings_are_compared_as_the_model_that_made_them(exported, photos, tmp_path, capsys):
    model, to = exported(".safetensors"), tmp_path / "photos.npy"
    assert main(["embed", str(model), str(photos), "--to", str(to)]) == 0
    assert "compared by angle" in capsys.readouterr().out
    told = {"compare": "angle", "labels_sha256": checksums.of_file(tmp_path / "photos.csv")}
    assert json.loads((tmp_path / "photos.npy.json").read_text()) == told

    def table(*words):
        assert main(["evaluate", *map(str, words)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        return said[said.index("P@1") :]

    by_angle = table(to)
    assert by_angle == table(model, photos)
    assert "compared by angle" in by_angle
    (tmp_path / "photos.npy.json").write_text('{"compare": "distance"}')
    by_distance = table(to)
    assert by_distance != by_angle
    assert by_distance == table(to, "--compare", "distance")
    assert table(to, "--compare", "angle") == by_angle
    (tmp_path / "photos.npy.json").write_text('{"compare": "hyperboloid"}')
    assert main(["evaluate", str(to)]) == 2
    assert "Say --compare angle or --compare distance" in capsys.readouterr().err


def test_a_folder_where_a_run_is_at_work_is_refused_before_anything_is_measured(
    out, tmp_path, capsys, monkeypatch
):
    embeddings_of_test(out, tmp_path)
    words = ["evaluate", str(tmp_path / "peer.npy"), "--into", str(out), "--compare", "distance"]
    with monkeypatch.context() as patch, lock(out, print):
        patch.setattr(evaluation, "_against", lambda *_: pytest.fail("measured"))
        assert main(words) == 2
    assert "another run is at work" in capsys.readouterr().err
    # Scores are there to be read whatever becomes of the row.
    monkeypatch.setattr(references, "write", lambda *_: raise_full())
    assert main(words) == 2
    said = capsys.readouterr()
    assert "per cent" in said.out
    assert "disk full" in said.err


def raise_full():
    raise StoreError("disk full")


def test_a_cleaned_study_is_measured_on_the_same_images(out, tmp_path, capsys):
    embeddings_of_test(out, tmp_path)
    words = ["evaluate", str(tmp_path / "peer.npy"), "--into", str(out)]
    assert main([*words, "--name", "before"]) == 0
    assert main(["clean", "--yes", "--out", str(out)]) == 0
    assert not list((out / "cache").glob("*"))
    assert main([*words, "--name", "after"]) == 0
    before, after = sorted(references.read(load_study(out)), key=lambda row: row.name != "before")
    assert after.metrics == before.metrics
    assert after.sums == before.sums


@pytest.mark.parametrize("dataset", ["cub200", "folder:shop@12345678", "csv:list@12345678"])
def test_images_that_only_a_root_opens_are_said_to_need_a_run(tmp_path, dataset):
    study = make(tmp_path, {key("ms", dataset): [0.5]})
    with pytest.raises(StoreError, match=r"only run knows by its --root .* one more seed"):
        images_of(study, study.cells[0], Registry())


def test_own_images_are_decoded_again_where_the_study_had_them(tmp_path, monkeypatch):
    plan = dict.fromkeys("abcdefghijklmnop", 4)
    name, root = f"folder:{folder(tmp_path / 'mine', plan)}", tmp_path / "root"
    assert main(["data", "prepare", name, "--root", str(root)]) == 0
    met = Registry().load("dataset", name).digest(root)
    title = f"folder:mine@{met[:8]}"
    study = make(tmp_path / "runs", {key("ms", title): [0.5]})
    given.remember(study.out, {title: name}, root, {})
    monkeypatch.setattr(tested, "digest_of", lambda *_: met)
    test = images_of(study, study.cells[0], Registry())
    assert (len(test), len(set(test.labels))) == (32, 8)
    shutil.rmtree(study.out / "cache")
    shutil.rmtree(root)
    with pytest.raises(StoreError, match=r"had them they are not any more .* one more seed"):
        images_of(study, study.cells[0], Registry())


def test_a_dataset_of_other_images_is_not_taken_for_the_studys(tmp_path):
    study = make(tmp_path, {key("ms", "toy"): [0.5]})
    with pytest.raises(StoreError, match="the dataset of this name has other images by now"):
        images_of(study, study.cells[0], Registry())


def test_references_are_no_part_of_a_submission(exported, out, tmp_path):
    assert main(["evaluate", str(exported(".pt2")), "--into", str(out), "--name", "peer"]) == 0
    results = tmp_path / "results"
    results.mkdir()
    assert submissions.submit(out, results) == 0
    assert not [p for p in results.rglob("*") if "peer" in p.name or "safetensors" in p.name]


def test_other_images_and_names_in_use_are_refused(out, tmp_path, capsys):
    embeddings_of_test(out, tmp_path)
    table = (tmp_path / "peer.csv").read_text()
    first = table.splitlines()[1]
    label = first.partition(",")[2]
    other = next(line for line in table.splitlines()[2:] if not line.endswith(f",{label}"))
    moved = f"{first.partition(',')[0]},{other.partition(',')[2]}"
    words = ["evaluate", str(tmp_path / "peer.npy"), "--into", str(out)]
    for text, said in (
        (
            table.replace(f"{first}\n", f"{moved}\n"),
            "are not the study's",
        ),
        (table.replace(first, "x.png,unheard-of"), "label 'unheard-of' is no class"),
        (table.replace(f"{first}\n", ""), "embeddings for"),
    ):
        (tmp_path / "peer.csv").write_text(text)
        assert main(words) == 2, said
        assert said in capsys.readouterr().err
    (tmp_path / "peer.csv").write_text(table)
    for name, said in (("ms", "has this name"), ("a/b", "expected letters"), (".x", "expected")):
        assert main([*words, "--name", name]) == 2
        assert said in capsys.readouterr().err
    assert not (out / "references").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.npy", "photos"], "leave the images out"),
        (["x.pt2", "photos", "--compare", "angle"], "--compare is for embeddings"),
        (["x.pt2", "photos", "--labels", "y.csv"], "--labels is for embeddings"),
        (["x.pt2"], "say on which images"),
        (["x.pt2", "photos", "--into", "runs"], "the study's own test images"),
        (["x.npy", "--name", "peer"], "say --into"),
        (["x.npy"], "no file of embeddings"),
        (["x.parquet"], "are read from a .npy file"),
        (["x.parquet", "--compare", "angle"], "embed MODEL IMAGES --to x.npy"),
    ],
)
def test_options_that_do_not_fit_together(words, said, capsys):
    assert main(["evaluate", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def told_otherwise(model, folder, trained_on):
    """Return a copy of an exported model that says ``trained_on``; None for nothing, as of old."""
    path = folder / model.name
    shutil.copyfile(model, path)
    told = json.loads(model.with_name(f"{model.name}.json").read_text())
    del told["origin"]["trained_on"]
    if trained_on is not None:
        told["origin"]["trained_on"] = trained_on
    path.with_name(f"{path.name}.json").write_text(json.dumps(told))
    return path


def listing(sums):
    begins = " ".join(sorted(found[:16] for found in sums))
    return {"dataset": "x", "dataset_digest": "ab", "images": len(sums), "sha256_begin": begins}


def test_images_that_a_model_was_trained_on_are_counted(exported, photos, tmp_path, capsys):
    files = sorted(photos.rglob("*.png"))
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    said = {}
    for name, trained_on in (
        ("some", listing([*sums[:3], "f" * 64])),
        ("others", listing(["f" * 64])),
        ("too many", {**listing(sums), "sha256_begin": None}),
        ("of old", None),
    ):
        model = told_otherwise(exported(".safetensors"), tmp_path, trained_on)
        assert main(["evaluate", str(model), str(photos)]) == 0
        said[name] = capsys.readouterr().err
    assert f"3 of these {len(files)} images were trained on: the score is too high" in said["some"]
    assert said["others"] == ""
    unknown = "whether the model was trained on some of these images is not known\n"
    assert said["too many"] == said["of old"] == unknown


def test_a_model_trained_on_test_images_of_a_study_is_no_row_of_it(exported, out, tmp_path, capsys):
    study = load_study(out)
    test = images_of(study, study.cells[0], Registry())
    (path,) = (out / "cache").glob("*.classes.npz")
    known = read_labels(path)
    sums = [
        hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(len(known.labels))
    ]
    names = [f"c{n}" for n in range(known.classes)]
    checksums.write_signed(path, _packed(known, names, sums=sums))
    tested = [sums[n] for n in test.index.tolist()]
    others = sorted(set(sums) - set(tested))
    model = told_otherwise(exported(".safetensors"), tmp_path, listing([*tested[:5], *others]))
    words = ["evaluate", str(model), "--into", str(out), "--name", "peer"]
    assert main(words) == 2
    assert f"was trained on 5 of the {len(test)} test images of toy" in capsys.readouterr().err
    assert not (out / "references").exists()
    told_otherwise(exported(".safetensors"), tmp_path, listing(others))
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    told_otherwise(exported(".safetensors"), tmp_path, None)
    assert main(words) == 0
    assert "is not known" in capsys.readouterr().err


def test_an_image_given_again_by_a_link_is_refused_before_anything_is_embedded(
    exported, photos, tmp_path, capsys
):
    base = tmp_path / "linked"
    shutil.copytree(photos, base)
    first, *_, last = sorted(path for path in base.iterdir())
    image = next(first.iterdir())
    (last / "again.png").symlink_to(image)
    assert main(["evaluate", str(exported(".safetensors")), str(base)]) == 2
    said = capsys.readouterr().err
    assert f"listed more than once: {str(image.resolve())!r}" in said
    assert "Give each image once" in said


def test_a_damaged_reference_is_named(exported, out):
    assert main(["evaluate", str(exported(".pt2")), "--into", str(out), "--name", "peer"]) == 0
    path = out / "references" / "peer@toy.json"
    body = json.loads(path.read_text())
    body["metrics"]["map_at_r"] = 1.0
    path.write_text(json.dumps(body))
    with pytest.raises(StoreError, match=r"peer@toy\.json is damaged\. Delete it"):
        make_tables(load_study(out))
    del body["sha256"]
    body["dataset_digest"] = "another"
    path.write_text(json.dumps({**body, "sha256": digest(body, 64)}))
    assert list(references.read(load_study(out))) == [], "measured on other images: not shown"


def test_a_peers_onnx_file_says_in_words_what_goes_in(exported, photos, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    own, peer = exported(".onnx"), tmp_path / "peer.onnx"
    peer.write_bytes(own.read_bytes())
    assert main(["evaluate", str(peer), str(photos)]) == 2
    assert "at least" in capsys.readouterr().err
    words = {"resize_px": 16, "crop_px": 16, "compare": "angle", "scale": None}
    beside = tmp_path / "peer.onnx.json"
    beside.write_text(json.dumps(words))
    assert main(["evaluate", str(peer), str(photos)]) == 0
    plain = capsys.readouterr().out
    assert main(["evaluate", str(own), str(photos)]) == 0
    assert capsys.readouterr().out == plain
    beside.write_text(json.dumps({**words, "crop_px": 12}))
    assert main(["evaluate", str(peer), str(photos)]) == 2
    assert "does not take images of shape" in capsys.readouterr().err
