"""The model card of an exported model: read back by the hub's own library, and by people."""

import json
import math
import shlex
from statistics import fmean

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmark.cli import main
from benchmark.models.card import beside, render
from benchmark.models.description import Description
from benchmark.models.images import Item, cropped, pixels_of
from benchmark.study.folder import load_study

ModelCard = pytest.importorskip("huggingface_hub").ModelCard


@pytest.fixture(scope="module")
def card(toy_study, tmp_path_factory):
    """The card and the description of an exported model."""
    path = tmp_path_factory.mktemp("card") / "winner.safetensors"
    assert main(["export", "ms", "--out", str(toy_study), "--to", str(path)]) == 0
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    return beside(path), told


def test_the_hubs_library_reads_its_results(card):
    path, told = card
    data = ModelCard.load(path, ignore_metadata_errors=False).data
    assert data.library_name == "dml-reality-bench"
    assert data.pipeline_tag == "image-feature-extraction"
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == told["origin"]["test"]
    assert {result.dataset_name for result in data.eval_results} == {"toy"}
    assert {r.task_name for r in data.eval_results} == {"Image retrieval of unseen classes"}
    assert data.model_name == "ms"


def test_it_says_that_its_seed_was_chosen_and_what_all_seeds_score(card, toy_study):
    path, told = card
    study = load_study(toy_study)
    (key,) = [key for key in study.cells if key.method == "ms"]
    runs = study.runs(key)
    best = max(runs, key=lambda run: run.validation["map_at_r"])
    assert told["origin"]["seed"] == best.seed
    mean = fmean(run.concatenated["map_at_r"] for run in runs)
    text = path.read_text()
    assert f"| MAP@R | {100 * best.concatenated['map_at_r']:.2f} | {100 * mean:.2f} |" in text
    assert f"of {len(runs)} it validated best" in text


def test_it_says_how_a_file_becomes_pixels(card):
    path, told = card
    words = ("EXIF", "transparency lies on white", "first frame", "16 bits", "not rounded")
    text = " ".join(path.read_text().split())
    for word in words:
        assert word in told["decoding"]
        assert word in text


def deep(path):
    """Write 16 bits of grey, whose longer side would be rounded up: 40 x 59 at 32 px is 47.2."""
    Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 257 + 100).save(path)


def turned(path):
    note = Image.Exif()
    note[0x0112] = 6
    Image.fromarray(NOISE[:, :, :3]).save(path, exif=note)


def transparent(path):
    Image.fromarray(NOISE).save(path)


def frames(path):
    first, second = (Image.fromarray(NOISE[::way, :, :3]) for way in (1, -1))
    first.save(path, save_all=True, append_images=[second])


NOISE = np.random.default_rng(0).integers(0, 256, (40, 59, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("make", "suffix"), [(deep, "png"), (turned, "png"), (transparent, "png"), (frames, "tiff")]
)
def test_whoever_follows_these_words_with_pillow_has_the_same_pixels(make, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    make(path)
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    clear = image.convert("RGBA")
    seen = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    short, long = 32, math.floor(32 * 59 / 40)
    upright = seen.height > seen.width
    size = (short, long) if upright else (long, short)
    resized = np.asarray(seen.resize(size, Image.Resampling.BILINEAR))
    middle = slice(round((long - short) / 2), round((long - short) / 2) + short)
    expected = resized[middle] if upright else resized[:, middle]
    told = Description(32, 32, "angle", None)
    found = cropped(pixels_of(Item(path)), told)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)


def test_people_read_what_it_is_and_how_to_use_it(card):
    path, told = card
    text = path.read_text()
    assert "# ms on toy" in text
    assert "python -m benchmark embed winner.safetensors photos --to photos.npy" in text
    assert f"Turns an image into {told['size']} numbers" in text
    for value in told["origin"]["test"].values():
        assert f"| {100 * value:.2f} |" in text
    for key, value in told["origin"]["settings"].items():
        assert f"{key} {value}" in text


def test_its_command_can_be_pasted_whatever_the_file_is_called(card):
    text = render("it's a model.onnx", Description(**card[1]))
    (line,) = (line for line in text.splitlines() if "benchmark embed" in line)
    words = ["embed", "it's a model.onnx", "photos", "--to", "photos.npy"]
    assert shlex.split(line)[3:] == words
