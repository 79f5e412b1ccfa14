"""The paper's bounds, optima and published means, and the methods searched within them."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocols import paper
from protocols.conformance import SPEC
from protocols.discovery import Registry
from protocols.errors import UnknownNameError
from protocols.space import Choice, Integer, declared

SHIPPED = Registry().names("method")
SEARCHED = [name for name in paper.METHODS if name != "pretrained"]
every_search = pytest.mark.parametrize("dataset", paper.DATASETS)
every_method = pytest.mark.parametrize("name", SEARCHED)


def load(name):
    return Registry().load("method", name)


def test_the_paper_has_fourteen_methods_and_pretrained_and_all_ship():
    assert len(SEARCHED) == 14
    assert set(paper.METHODS) <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_method_of_the_paper_says_so_by_its_own_name(name):
    assert load(name).paper_name == (name if name in paper.METHODS else "")


@every_search
@every_method
def test_search_space_holds_exactly_what_the_paper_searched(name, dataset):
    method = load(name)
    own, bounds = method.space(dataset), paper.search_space(name, dataset)
    fixed = paper.fixed(name, dataset)
    assert list(own) == [*bounds, *fixed, *paper.METHODS[name].made_with]
    for key, (low, high, log) in bounds.items():
        assert (own[key].low, own[key].high, own[key].log) == (low, high, log)
        assert own[key].name == key
        assert type(own[key]) is type(declared(method)[key])
        assert own[key].accept(own[key].default) == own[key].default
    for key in paper.METHODS[name].made_with:
        assert own[key].options == (False,), "a search keeps the exact form"
    for key, value in fixed.items():
        assert isinstance(own[key], Choice)
        assert own[key].options == (value,)


@every_search
@every_method
def test_declared_bounds_contain_the_papers(name, dataset):
    whole = declared(load(name))
    for key, (low, high, _) in paper.search_space(name, dataset).items():
        assert whole[key].low <= low, key
        assert high <= whole[key].high, key


@every_search
@every_method
def test_optima_lie_inside_the_space_and_build_the_method(name, dataset):
    method, chosen = load(name), paper.best(name, dataset)
    space = method.space(dataset)
    assert set(chosen) == set(space)
    allowed = {**space, **{key: declared(method)[key] for key in paper.METHODS[name].made_with}}
    for key, value in chosen.items():
        assert allowed[key].accept(value) == value
    settings = method(SPEC, **chosen).settings
    assert {key: settings[key] for key in chosen} == chosen


@every_method
def test_optima_at_batch_256_build_the_method_too(name):
    chosen = paper.best(name, "cub200", batch_size=256)
    assert chosen
    assert load(name)(SPEC, **chosen).settings.items() >= chosen.items()


@every_method
def test_other_datasets_are_searched_as_declared(name):
    method = load(name)
    space = method.space("emoji")
    assert list(space) == list(declared(method))
    for key, parameter in declared(method).items():
        searched = key not in paper.METHODS[name].made_with
        assert (space[key] is parameter) == searched
        assert searched or space[key].options == (False,)
    assert paper.search_space(name, "emoji") == {}
    assert paper.best(name, "emoji") == {}
    assert paper.table("emoji") == []


def test_later_methods_are_searched_as_declared_everywhere():
    method = load("proxy_anchor")
    assert method.space("cub200") == declared(method)


@pytest.mark.parametrize(
    ("name", "dataset", "expected"),
    [
        ("contrastive", "cub200", {"pos_margin": -0.2, "neg_margin": 0.38411914}),
        ("ntxent", "sop", {"temperature": 0.00024011857, "compat": True}),
        ("fastap", "cars196", {"bins": 27}),
        ("cosface", "cub200", {"weight_lr": 0.0025346566, "margin": 0.6182275, "scale": 100.0}),
        (
            "ms_miner",
            "sop",
            {"alpha": 15.94717, "beta": 156.61727, "base": 0.72503829, "epsilon": 0.34827624},
        ),
        (
            "softtriple",
            "sop",
            {
                "centre_lr": 8.6884527e-05,
                "la": 100.0,
                "gamma": 47.908687,
                "margin": 0.31452637,
                "centres": 1,
            },
        ),
    ],
)
def test_known_optima(name, dataset, expected):
    assert paper.best(name, dataset) == expected


def test_fastap_is_a_sweep_of_whole_numbers():
    space = load("fastap").space("cub200")
    assert isinstance(space["bins"], Integer)
    assert space["bins"].describe() == "{2..32}"
    assert paper.search_space("fastap", "cub200", batch_size=256)["bins"] == (2, 250, False)


def test_softtriple_has_no_regulariser_on_sop_and_one_centre():
    method = load("softtriple")
    assert "reg_weight" not in method.space("sop")
    assert method(SPEC, **paper.best("softtriple", "sop")).terms[0].loss.centers_per_class == 1
    assert method(SPEC, **paper.best("softtriple", "cub200")).terms[0].loss.centers_per_class == 10


WIDENED = {
    ("ntxent", "cub200", "temperature"): ((0.01, 100), (1e-4, 100)),
    ("ntxent", "sop", "temperature"): ((0.01, 100), (1e-5, 100)),
    ("cosface", "cub200", "scale"): ((0.01, 100), (0.01, 200)),
    ("cosface", "sop", "scale"): ((0.01, 100), (0.01, 200)),
    ("arcface", "cub200", "scale"): ((0.01, 100), (0.01, 200)),
    ("arcface", "sop", "scale"): ((0.01, 100), (0.01, 300)),
    ("ms", "cub200", "alpha"): ((0.01, 100), (0.001, 100)),
    ("ms_miner", "sop", "beta"): ((0.01, 100), (0.01, 200)),
    ("softtriple", "cub200", "gamma"): ((0.01, 100), (1e-4, 100)),
    ("softtriple", "sop", "la"): ((0.01, 100), (0.01, 200)),
}


def test_narrow_bounds_are_those_before_a_search_was_widened():
    met = {}
    for name in SEARCHED:
        for dataset in paper.DATASETS:
            wide = paper.search_space(name, dataset)
            for key, first in paper.search_space(name, dataset, bounds="narrow").items():
                assert wide[key].low <= first.low < first.high <= wide[key].high
                assert wide[key].log == first.log
                if first != wide[key]:
                    met[name, dataset, key] = (first[:2], wide[key][:2])
    assert met == WIDENED


def test_scales_are_the_papers():
    log = {
        (name, key)
        for name in SEARCHED
        for key, bounds in paper.search_space(name, "cub200").items()
        if bounds.log
    }
    rates = {(n, k) for n in SEARCHED for k in paper.search_space(n, "cub200") if k.endswith("_lr")}
    assert len(rates) == 7
    assert log == rates | {("ntxent", "temperature"), ("nsoftmax", "temperature")}


def test_unknown_method_names_the_nearest():
    for ask in (paper.search_space, paper.best):
        with pytest.raises(UnknownNameError, match="Did you mean 'triplet'"):
            ask("tripet", "cub200")


@pytest.mark.parametrize(("dataset", "own"), [("cub200", 90), ("cars196", 90), ("sop", 14)])
def test_published_means_are_fractions_under_our_names(dataset, own):
    rows = paper.table(dataset)
    shipped = [row for row in rows if row.method]
    assert len(shipped) == own
    assert {row.method for row in shipped} <= set(paper.METHODS)
    assert all(0 < row.value < 1 for row in rows)
    assert {row.metric for row in rows} <= {"precision_at_1", "r_precision", "map_at_r"}
    assert {row.embedding for row in rows} <= {"separated_128", "concatenated_512"}
    assert all(row.source for row in rows)
    keys = [(row.title, row.embedding, row.metric) for row in rows]
    assert len(set(keys)) == len(keys)


def test_later_rows_on_the_same_protocol_stand_beside_the_papers():
    titles = {row.title for row in paper.table("cub200") if not row.method}
    assert titles == {
        "SimPLE",
        *(f"{t} + within-pair mining" for t in ("Contrastive", "Triplet", "Margin", "MS")),
    }


def test_means_say_how_far_they_can_be_trusted():
    every = {dataset: paper.table(dataset) for dataset in paper.DATASETS}
    (doubtful,) = (row for rows in every.values() for row in rows if row.doubtful)
    assert (doubtful.title, doubtful.metric, doubtful.value) == (
        "Contrastive",
        "precision_at_1",
        pytest.approx(0.8187),
    )
    assert doubtful in every["cars196"]
    assert {row.read_error for row in every["sop"]} == {0.0002}
    assert {row.read_error for name in ("cub200", "cars196") for row in every[name]} == {0.0}


def test_later_works_are_named_and_not_the_papers():
    works = {row.title: row.work for row in paper.table("cub200")}
    assert works["SimPLE"] == "SimPLE"
    assert works["MS + within-pair mining"] == "within-pair mining"
    assert works["MS+Miner"] == works["Contrastive"] == "A Metric Learning Reality Check"
    assert {row.work for row in paper.table("cub200") if row.method} == {paper.WORK}


def test_a_published_mean():
    (row,) = (
        row
        for row in paper.table("cub200")
        if (row.method, row.embedding, row.metric) == ("pretrained", "concatenated_512", "map_at_r")
    )
    assert row.value == pytest.approx(0.1421)


def test_the_tables_can_be_read_without_torch():
    code = (
        "import sys; from protocols import paper; paper.table('cub200');"
        "paper.best('ms', 'sop'); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.parametrize(("name", "dataset", "key"), WIDENED)
def test_a_method_can_be_searched_within_the_narrow_bounds(name, dataset, key):
    narrow, wide = WIDENED[name, dataset, key]
    for bounds, ends in {"narrow": narrow, "wide": wide}.items():
        found = load(name).space(dataset, bounds)[key]
        assert (found.low, found.high) == ends
        assert found.low <= found.default <= found.high
