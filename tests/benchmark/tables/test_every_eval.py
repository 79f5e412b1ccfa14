"""Records for Every Eval Ever: what its schema asks for, restated here, and the study's numbers."""

import json

import jsonschema
import pytest
from scipy import stats

from benchmark.tables.formats import to_format
from benchmark.tables.frames import make_tables
from tests.benchmark.tables.test_frames import make

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
# Version 0.2.1, as far as our records go: what is required, allowed values, kinds of values.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata"),
        *("model_info", "eval_library", "evaluation_results"),
    ],
    "properties": {
        "schema_version": {"type": "string"},
        "evaluation_id": {"type": "string"},
        "retrieved_timestamp": {"type": "string", "pattern": "^[0-9]+$"},
        "source_metadata": {
            "type": "object",
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {
                "source_name": {"type": "string"},
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "source_organization_name": {"type": "string"},
                "evaluator_relationship": {
                    "enum": ["first_party", "third_party", "collaborative", "other"]
                },
            },
        },
        "eval_library": {
            "type": "object",
            "required": ["name", "version"],
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
        },
        "model_info": {
            "type": "object",
            "required": ["name", "id"],
            "properties": {
                "name": {"type": "string"},
                "id": {"type": "string"},
                "additional_details": STRINGS,
            },
        },
        "evaluation_results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
                "properties": {
                    "evaluation_name": {"type": "string"},
                    "source_data": {
                        "type": "object",
                        "required": ["dataset_name", "source_type"],
                        "properties": {
                            "source_type": {"const": "other"},
                            "additional_details": STRINGS,
                        },
                    },
                    "metric_config": {
                        "type": "object",
                        "required": ["lower_is_better", "min_score", "max_score"],
                        "properties": {
                            "lower_is_better": {"type": "boolean"},
                            "score_type": {"const": "continuous"},
                            "min_score": {"type": "number"},
                            "max_score": {"type": "number"},
                        },
                    },
                    "score_details": {
                        "type": "object",
                        "required": ["score"],
                        "properties": {
                            "score": {"type": "number"},
                            "details": STRINGS,
                            "uncertainty": {
                                "type": "object",
                                "properties": {
                                    "confidence_interval": {
                                        "type": "object",
                                        "required": ["lower", "upper"],
                                    },
                                    "standard_deviation": {"type": "number"},
                                    "num_samples": {"type": "integer"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    study = make(tmp_path, {"triplet": [0.2, 0.3, 0.25], "margin": [0.4, 0.5, 0.45]})
    return to_format(make_tables(study), "every-eval-ever")


def test_each_row_is_a_record_that_the_schema_takes(files):
    assert len(files) == 2
    for name, content in files.items():
        assert name.startswith("every_eval_ever/")
        assert ".." not in name
        jsonschema.validate(json.loads(content), SCHEMA)


def test_the_scores_are_those_of_the_study(files):
    (content,) = (body for name, body in files.items() if name.endswith("/margin.json"))
    record = json.loads(content)
    assert record["retrieved_timestamp"] == "1790000000"
    (found,) = (
        r
        for r in record["evaluation_results"]
        if r["evaluation_name"].endswith("MAP@R, concatenated")
    )
    values = [0.4, 0.5, 0.45]
    details = found["score_details"]
    assert details["score"] == pytest.approx(0.45)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = details["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == pytest.approx((expected.low, expected.high))
    assert details["uncertainty"]["standard_deviation"] == pytest.approx(0.05)
    assert details["uncertainty"]["num_samples"] == 3


def test_the_time_is_now_unless_it_is_fixed(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    study = make(tmp_path, {"triplet": [0.2, 0.3, 0.25], "margin": [0.2, None, 0.25]})
    (content,) = to_format(make_tables(study), "every-eval-ever").values()
    assert json.loads(content)["retrieved_timestamp"].isdecimal()
    assert json.loads(content)["model_info"]["name"] == "triplet", "the other lacks a run"
