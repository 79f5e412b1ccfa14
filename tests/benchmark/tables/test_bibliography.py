"""What to cite: an entry for every method and dataset that is from a paper, and files for LaTeX."""

import re

import pytest

from benchmark.report import page
from benchmark.tables import bibliography
from benchmark.tables.formats import to_format
from benchmark.tables.frames import make_tables
from protocols.discovery import Registry
from tests.benchmark.tables.test_frames import make

# Nobody's paper: trunks without training, embedded sets, one's own images.
OWN = {"untrained", "pretrained", "emoji", "toy", "folder", "csv"}


def test_every_method_and_dataset_of_a_paper_has_an_entry():
    registry = Registry()
    names = {*registry.names("method"), *registry.names("dataset")}
    known = {name for source in bibliography.sources() for name in source.used_by}
    assert known - names == {bibliography.EVERY}
    papers = {
        name
        for name in registry.names("method")
        if getattr(registry.load("method", name), "paper", "")
    }
    official = {
        name
        for name in registry.names("dataset")
        if name not in ("folder", "csv") and hasattr(registry.load("dataset", name), "OFFICIAL")
    }
    assert {*papers, *official} - OWN <= known


def test_arxiv_numbers_are_those_that_the_methods_name():
    registry = Registry()
    for source in bibliography.sources():
        for name in source.used_by & set(registry.names("method")):
            paper = registry.load("method", name).paper
            named = set(re.findall(r"\d{4}\.\d{5}", paper)) - {"2003.08505"}
            numbers = {
                other.fields.get("eprint")
                for other in bibliography.sources()
                if name in other.used_by
            }
            assert named <= numbers, name


def test_every_entry_reads_as_bibtex():
    text = bibliography.FILE.read_text(encoding="utf-8")
    entries = bibliography.sources()
    assert len(entries) == text.count("\n@") > 30
    assert len({source.key for source in entries}) == len(entries)
    for source in entries:
        assert {"title", "author", "year"} <= source.fields.keys()
        assert "others" not in source.fields["author"].split(" and ")
        assert source.bibtex.count("{") == source.bibtex.count("}")
        assert re.fullmatch(r"\d{4}", source.fields["year"])
        assert not re.search(r"[{}\\]", source.words)


def test_words_are_plain():
    (wu,) = (s for s in bibliography.sources() if s.key == "wu2017sampling")
    assert wu.words == (
        "Chao-Yuan Wu, R. Manmatha, Alexander J. Smola, Philipp Krähenbühl: Sampling Matters in "
        "Deep Embedding Learning. IEEE International Conference on Computer Vision (ICCV). 2017. "
        "arXiv:1706.07567"
    )


@pytest.fixture
def tables(tmp_path):
    return make_tables(make(tmp_path, {"triplet": [0.2, 0.3], "margin": [0.4, 0.5]}))


def test_a_study_cites_what_it_uses(tables):
    keys = {source.key for source in bibliography.cited(tables.study)}
    assert keys == {"musgrave2020reality", "hermans2017triplet", "wu2017sampling"}
    files = to_format(tables, "latex")
    assert set(re.findall(r"^@\w+\{(.+),", files["references.bib"].decode(), re.M)) == keys
    assert "used_by" not in files["references.bib"].decode()
    html = page.render(tables)
    assert "Sampling Matters in Deep Embedding Learning" in html
    assert "@inproceedings{wu2017sampling," in html
