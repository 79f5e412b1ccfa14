"""What to cite: an entry for every method and dataset that is from a paper, and files for LaTeX."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.report import page
from benchmark.tables import bibliography
from benchmark.tables.formats import to_format
from benchmark.tables.frames import make_tables
from benchmark.tables.references import COLUMNS
from protocols.discovery import Registry
from protocols.metrics import METRICS
from tests.benchmark.tables.test_comparisons import done
from tests.benchmark.tables.test_frames import key, make
from tests.proven import put

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


CITE = re.compile(r"\\cite\{([^}]*)\}")


def latex(tmp_path, values):
    """Return headline.tex, and the keys of references.bib, of a study made by hand."""
    files = to_format(make_tables(make(tmp_path / "out", values)), "latex")
    keys = re.findall(r"^@\w+\{(.+),", files["references.bib"].decode(), re.M)
    return files["headline.tex"].decode(), keys


def first_cells(text):
    """Return what stands in the first column of all tables, heads left out."""
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL)
    return [row.partition(" & ")[0] for body in bodies for row in body.strip().splitlines()]


def test_rows_cite_their_methods_papers_and_captions_the_protocols(tmp_path):
    names = ("triplet", "ms_miner", "ntxent", "my_loss", "untrained")
    values = {key(name, "cub200"): [0.2, 0.3, 0.4] for name in names}
    values[key("margin", "cub200")] = [0.2, None, None]  # a row that has no number yet
    text, keys = latex(tmp_path, values)
    assert sorted(first_cells(text)) == [
        r"margin~\cite{wu2017sampling}",
        r"ms\_miner~\cite{wang2019ms}",
        r"my\_loss",
        r"ntxent~\cite{sohn2016npair,chen2020simclr}",
        r"triplet~\cite{hermans2017triplet} (baseline)",
        "untrained",
    ]
    assert re.findall(r"\\caption\{(.*)\}$", text, re.M) == [
        r"P@1, R-Precision and MAP@R on test classes of cub200~\cite{wah2011cub}, in per cent, of "
        r"trunk tiny trained with recipe adam under protocol hand v3~\cite{musgrave2020reality}: "
        r"mean $\pm$ t 95\% over 3 seeds."
    ]
    assert sorted(keys) == sorted({k for keys in CITE.findall(text) for k in keys.split(",")})
    assert len(keys) == len(set(keys)) == 7


def test_rules_stand_below_the_table_and_not_in_its_caption(tmp_path):
    text, _ = latex(tmp_path, {"triplet": [0.2, 0.3, 0.4], "ms": [0.4, 0.5, 0.7]})
    (caption,) = re.findall(r"\\caption\{(.*)\}$", text, re.M)
    _, _, below = text.partition(r"\end{tabular}")
    for words in ("selected by map", "Holm over 1 comparison", "by hand"):
        assert words in below
        assert words not in caption
    assert len(re.findall(r"\.(?: |$)", caption)) <= 2
    packages = set(re.findall(r"\\usepackage\{(\w+)\}", text))
    assert packages == {"booktabs"}


def test_tables_of_several_datasets_and_searches_cite_too(tmp_path):
    values = {}
    for dataset in ("cub200", "sop"):
        for name in ("triplet", "ms"):
            values[key(name, dataset)] = [0.2, 0.3, 0.5]
    study = make(tmp_path, values)
    again = replace(key("ms", "sop"), id="again", repeat=1)
    study = study.extend([again], study.protocol)
    for seed in range(3):
        put(study, again, done(again, seed, 0.3 + seed / 10))
    files = to_format(make_tables(study), "latex")
    text, bib = files["headline.tex"].decode(), files["references.bib"].decode()
    captions = re.findall(r"\\caption\{(.*)\}$", text, re.M)
    assert len(captions) == 4
    for caption in captions:
        assert r"\cite{musgrave2020reality}" in caption
        assert len(re.findall(r"\.(?: |$)", caption)) <= 2
    assert first_cells(text).count(r"ms~\cite{wang2019ms}") == 4
    cited = {k for keys in CITE.findall(text) for k in keys.split(",")}
    assert set(re.findall(r"^@\w+\{(.+),", bib, re.M)) == cited


def test_a_row_of_another_model_cites_nothing_whatever_its_name(tmp_path):
    tables = make_tables(make(tmp_path, {"triplet": [0.2, 0.3, 0.4]}))
    measured = {"dataset": "shapes", "name": "triplet", "value": 0.5, "file": "winner.onnx"}
    rows = [{**measured, "metric": metric} for metric in METRICS]
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype(COLUMNS)
    text = to_format(replace(tables, references=frame), "latex")["headline.tex"].decode()
    assert first_cells(text) == [
        r"triplet~\cite{hermans2017triplet} (baseline)",
        "triplet (reference)",
    ]


def test_a_name_in_letters_that_latex_lacks_is_no_argument_of_the_line_above(tmp_path):
    text, _ = latex(tmp_path, {"triplet": [0.2, 0.3, 0.4], "\u635f\u5931": [0.3, 0.4, 0.5]})
    assert "[U+635F]" in text
    assert not re.search(r"\\\\\s*[\[*]|\\midrule\s*[\[*]", text), "read as the height of a gap"
