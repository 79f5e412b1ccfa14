"""The model card of an exported model: read back by the hub's own library, and by people."""

import json
from statistics import fmean

import pytest

from benchmark.cli import main
from benchmark.models.card import beside
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
