"""Which records go aside when one of them is damaged."""

import json
import random
from dataclasses import asdict, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.study import records
from benchmark.study.aside import faults, set_aside
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.places import cell_id
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    Record,
    RunRecord,
    TrialRecord,
    load,
    write,
)
from benchmark.study.selection import BEST_TRIAL
from protocols.errors import StoreError
from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule, digest
from protocols.specs.toy import PROTOCOL
from tests.proven import proven, put

CELL = CellKey(cell_id({}), "toy", "tiny", "adam", "ms", "ms")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    found = Study(tmp_path, PROTOCOL, (CELL,))
    rows = [CellRecord(CELL.id, "toy", 1, "toy", "tiny", "adam", "ms", "ms", {})]
    rows += [ChoiceRecord("choice", CELL.id, "best", 0, {}, 0.5)]
    for number in range(2):
        rows += [TrialRecord(f"t{number}", CELL.id, number, {}, "done", 0.5, [0.5, 0.5])]
        rows += [RunRecord(f"r{number}", CELL.id, number, {}, "done", [None, None])]
        for fold in range(2):
            for stage in ("search", "final"):
                name = f"{stage}{number}{fold}"
                rows += [JobRecord(name, CELL.id, stage, number, fold, {}, "done")]
    for row in rows:
        put(found, CELL, row)
    return found


def names(study: Study) -> set[str]:
    return {path.name for path in study.folder(CELL).iterdir()}


@pytest.mark.parametrize(
    ("broken", "aside"),
    [
        ("seed-1.json", set()),
        ("seed-1.fold-0.json", {"seed-1.json"}),
        ("trial-000.json", {"choice.json"}),
        ("trial-001.fold-1.json", {"trial-001.json", "choice.json"}),
        ("choice.json", set()),
        ("cell.json", set()),
    ],
)
def test_a_record_goes_aside_with_what_was_made_from_it(study, broken, aside) -> None:
    before = names(study)
    path = study.folder(CELL) / broken
    path.write_bytes(path.read_bytes()[:-20])
    assert len(set_aside(study, CELL)) == 1
    gone = {f"{name}.aside" for name in aside} | {f"{broken}.damaged"}
    assert names(study) == before - aside - {broken} | gone
    assert len(set_aside(study, CELL)) == 1, "until it is redone it stays missed"
    assert names(study) == before - aside - {broken} | gone


def test_what_was_redone_is_no_longer_missed(study) -> None:
    path = study.folder(CELL) / "trial-000.json"
    content = path.read_bytes()
    path.write_bytes(b"{}")
    set_aside(study, CELL)
    path.write_bytes(content)
    assert len(set_aside(study, CELL)) == 0
    assert faults(study, CELL) == {}


def test_any_number_of_damaged_records(study) -> None:
    """However many are hit: no record stays that was made from one that is gone."""
    rng = random.Random(5)
    paths = sorted(study.folder(CELL).glob("*.json"))
    for path in rng.sample(paths, 6):
        path.write_bytes(b"")
    assert len(set_aside(study, CELL)) == 6
    left = {path.name for path in study.folder(CELL).glob("*.json")}
    for name in left:
        stem = name.removesuffix(".json")
        if name.startswith(("trial-", "seed-")) and ".fold-" not in name:
            assert {f"{stem}.fold-0.json", f"{stem}.fold-1.json"} <= left
    if "choice.json" in left:
        assert {"trial-000.json", "trial-001.json"} <= left


def job(stage: str, number: int, fold: int, **changes: Any) -> JobRecord:
    return replace(
        JobRecord("", CELL.id, "final" if stage == "final" else "search", number, fold, {}, "done"),
        **changes,
    )


def planted(study: Study, name: str, record: Record) -> None:
    """Put a whole, checksummed record into the place ``name`` of another one."""
    write(study.folder(CELL) / name, record)


OTHER = "0f" * 8
FAULTS = {
    "seed 1's run as seed 0's": (
        "seed-0.json",
        RunRecord("", CELL.id, 1, {}, "done", [None, None]),
        "holds another record, seed-1.json",
    ),
    "another method's run": (
        "seed-0.json",
        RunRecord("", OTHER, 0, {}, "done", [None, None]),
        f"belongs to another cell, {OTHER}",
    ),
    "another trial": (
        "trial-000.json",
        TrialRecord("", CELL.id, 1, {}, "done", 0.5, [0.5, 0.5]),
        "holds another record, trial-001.json",
    ),
    "another fold": (
        "trial-000.fold-0.json",
        job("search", 0, 1),
        "holds another record, trial-000.fold-1.json",
    ),
    "another stage": (
        "trial-001.fold-0.json",
        job("final", 1, 0),
        "holds another record, seed-1.fold-0.json",
    ),
    "another kind": (
        "choice.json",
        TrialRecord("", CELL.id, 0, {}, "done", 0.5, [0.5, 0.5]),
        "holds another record, trial-000.json",
    ),
    "another cell's choice": (
        "choice.json",
        ChoiceRecord("", OTHER, BEST_TRIAL, 0, {}, 0.5),
        f"belongs to another cell, {OTHER}",
    ),
    "a choice that the rule does not make": (
        "choice.json",
        ChoiceRecord("", CELL.id, BEST_TRIAL, 1, {}, 0.5),
        "not what the rule picks from the trials",
    ),
    "a run with another setting": (
        "seed-1.json",
        RunRecord("", CELL.id, 1, {"margin": 0.5}, "done", []),
        "made with another setting than the chosen one",
    ),
    "a fold with another setting": (
        "seed-1.fold-1.json",
        job("final", 1, 1, settings={"margin": 0.5}),
        "made with another setting than its trial or run",
    ),
    "another cell's cell.json": (
        "cell.json",
        CellRecord("", "toy", 1, "toy", "tiny", "adam", "ms", "ms", {"method": "ms"}),
        f"belongs to another cell, {cell_id({'method': 'ms'})}",
    ),
}


@pytest.mark.parametrize("which", FAULTS)
def test_a_record_in_anothers_place_is_found_and_redone(study, which) -> None:
    name, record, why = FAULTS[which]
    assert faults(study, CELL) == {}
    planted(study, name, proven(record))
    assert set_aside(study, CELL) == {name: why}
    assert (study.folder(CELL) / f"{name}.damaged").exists()
    assert not (study.folder(CELL) / name).exists()


@pytest.mark.parametrize("name", ["seed-0.json", "trial-000.json", "choice.json", "cell.json"])
def test_an_id_that_is_not_of_its_content_is_found(study, name) -> None:
    path = study.folder(CELL) / name
    write(path, replace(load(path), id="1" * 16))
    whose = "belongs to another cell" if name == "cell.json" else "its id is not that of its"
    assert faults(study, CELL)[name].startswith(whose)


@pytest.mark.parametrize(
    "name", ["trial-000.json", "trial-001.json", "trial-001.fold-1.json", "seed-0.fold-0.json"]
)
def test_what_is_gone_under_a_finished_choice_or_run_is_noticed(study, name) -> None:
    (study.folder(CELL) / name).unlink()
    assert set_aside(study, CELL) == {name: "gone"}
    above = "choice.json" if name.startswith("trial-") else "seed-0.json"
    assert (study.folder(CELL) / f"{above}.aside").exists()
    assert faults(study, CELL) == {}, "what is to be redone is an unfinished cell like any other"


def test_a_choice_made_elsewhere_has_no_trials_and_is_kept(study) -> None:
    for path in study.folder(CELL).glob("trial-*"):
        path.unlink()
    assert faults(study, CELL) == {}


@pytest.mark.parametrize("case", ["cut", "flipped", "empty", "gone", "another seed's"])
def test_a_run_whose_query_file_is_not_its_own_is_redone(study, case) -> None:
    for seed in range(2):
        content = f"results of seed {seed}".encode()
        records.write_bytes(study.out / "queries" / f"seed-{seed}.npz", content)
        file = {"path": f"queries/seed-{seed}.npz", "sha256": sha256(content).hexdigest()}
        run = study.run(CELL, seed)
        assert run is not None
        put(study, CELL, replace(run, queries=file))
    assert faults(study, CELL) == {}
    path = study.out / "queries" / "seed-0.npz"
    content = path.read_bytes()
    other = (study.out / "queries" / "seed-1.npz").read_bytes()
    found = {"cut": content[:5], "flipped": b"R" + content[1:], "empty": b""}
    if case == "gone":
        path.unlink()
    else:
        path.write_bytes(found.get(case, other))
    why = "not in the output folder" if case == "gone" else "not those of its record"
    assert set_aside(study, CELL) == {"seed-0.json": f"its per-query results are {why}"}


def test_a_reader_takes_a_doubted_record_for_missing_and_changes_nothing(study) -> None:
    planted(study, "seed-0.json", proven(RunRecord("", CELL.id, 1, {}, "done", [None, None])))
    before = {path: path.read_bytes() for path in study.folder(CELL).iterdir()}
    assert [run.seed for run in study.runs(CELL)] == [1]
    assert study.doubts == {study.folder(CELL) / "seed-0.json": "holds another record, seed-1.json"}
    assert {path: path.read_bytes() for path in study.folder(CELL).iterdir()} == before
    put(study, CELL, RunRecord("", CELL.id, 0, {}, "done", [None, None]))
    assert [run.seed for run in study.runs(CELL)] == [0, 1]
    assert study.doubts == {}, "what was mended is not doubted any more"


whole, share = st.integers(0, 10**9), st.floats(0, 1)
words = st.text(max_size=20)
pairs = st.tuples(share, share)
paces = st.builds(Pace, whole, whole, whole, whole)
protocols = st.builds(
    Protocol,
    name=words,
    version=whole,
    summary=words,
    datasets=st.lists(words, max_size=3).map(tuple),
    trunk=words,
    recipe=words,
    reference=words,
    baseline=words,
    folds=whole,
    image=st.builds(ImagePipeline, whole, whole, pairs, pairs, share),
    pace=paces,
    paces=st.dictionaries(words, paces, max_size=2),
    search=st.builds(
        SearchRule,
        whole,
        st.sampled_from(["tpe", "gp", "random"]),
        whole,
        st.sampled_from(["wide", "narrow"]),
        share,
    ),
    seeds=whole,
    timeout_s=st.floats(0, 1e9),
    overrides=st.dictionaries(words, st.one_of(whole, words), max_size=2),
)


@given(protocols)
def test_any_protocol_is_read_as_it_was_written(tmp_path_factory, protocol) -> None:
    out = tmp_path_factory.mktemp("study")
    Study(out, protocol, (CELL,)).save()
    found = load_study(out)
    assert found is not None
    assert found.protocol == protocol
    assert found.protocol.hash() == protocol.hash()
    assert found.cells == (CELL,)


@given(protocols, protocols)
def test_rules_are_equal_where_all_that_moves_a_number_is(one, other) -> None:
    wordless = {"summary", "label", "overrides", "datasets", "trunk", "recipe", "seeds"}
    names = [f.name for f in fields(Protocol)]
    for name in names:
        changed = replace(one, **{name: getattr(other, name)})
        same = asdict(changed)[name] == asdict(one)[name] or name in wordless
        assert (changed.rules_hash() == one.rules_hash()) == same, name


@given(st.data())
def test_a_damaged_study_file_is_one_clear_line_or_the_same_study(tmp_path_factory, data) -> None:
    out = tmp_path_factory.mktemp("study")
    Study(out, PROTOCOL, (CELL,)).save()
    content = (out / "study.json").read_bytes()
    cut = data.draw(st.integers(0, len(content) - 3))
    (out / "study.json").write_bytes(content[:cut])
    with pytest.raises(StoreError, match="Delete that one file"):
        load_study(out)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda body: body["protocol"].update(colour="blue"), "protocol.colour: Unexpected"),
        (lambda body: body["protocol"]["pace"].update(colour="blue"), "protocol.pace.colour"),
        (lambda body: body["protocol"].update(seeds="3"), "protocol.seeds: Input should be a"),
        (lambda body: body["protocol"].update(seeds=True), "protocol.seeds: Input should be a"),
        (lambda body: body["protocol"].pop("trunk"), "protocol.trunk"),
        (lambda body: body["protocol"]["image"].update(area=[0.5]), "protocol.image.area.1"),
        (lambda body: body["protocol"].update(params="guess"), "protocol.params"),
        (lambda body: body["cells"][0].update(colour="blue"), "cells.0.colour"),
        (lambda body: body.pop("cells"), "cells"),
    ],
)
def test_an_edited_study_file_is_one_line_that_names_the_place(tmp_path, change, part) -> None:
    Study(tmp_path, PROTOCOL, (CELL,)).save()
    path = tmp_path / "study.json"
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))
    with pytest.raises(StoreError) as caught:
        load_study(tmp_path)
    assert f"study.json is damaged ({part}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_keep_their_types_and_a_field_with_a_default_may_be_missing(tmp_path) -> None:
    protocol = PROTOCOL.derive(trials=5, params="published", oracle_gap=True)
    Study(tmp_path, protocol, (CELL,)).save()
    path = tmp_path / "study.json"
    found = load_study(tmp_path)
    assert found is not None
    assert {k: type(v) for k, v in found.protocol.overrides.items()} == {
        "trials": int,
        "params": str,
        "oracle_gap": bool,
    }
    replace(found, protocol=replace(protocol, oracle_gap=False)).save()
    body = json.loads(path.read_text())
    del body["protocol"]["oracle_gap"], body["sha256"]
    path.write_text(json.dumps(body))
    found = load_study(tmp_path)
    assert found is not None
    assert found.protocol == replace(protocol, oracle_gap=False)


def test_a_file_from_before_a_rule_was_added_keeps_its_hashes(tmp_path) -> None:
    """Its hashes are over the rules that it has; a rule that came later moves none of them."""
    Study(tmp_path, PROTOCOL, (CELL,)).save()
    path = tmp_path / "study.json"
    body = json.loads(path.read_text())
    del body["sha256"], body["protocol"]["precision"]
    rules = {name: body["protocol"][name] for name in PROTOCOL.rules() if name != "precision"}
    grid = {name: body["protocol"][name] for name in ("datasets", "trunk", "recipe", "seeds")}
    body |= {"rules_hash": digest(rules), "protocol_hash": digest({**rules, **grid})}
    path.write_text(json.dumps(body))
    found = load_study(tmp_path)
    assert found is not None
    assert found.protocol == PROTOCOL


@pytest.mark.parametrize("checksum", [True, False], ids=["now", "before there was a checksum"])
def test_no_flipped_bit_loads_as_another_study(study, checksum) -> None:
    """Words for people are covered by the checksum alone, so files without one may lose some."""
    study.save()
    path, rng, refused, accepted = study.out / "study.json", random.Random(7), 0, 0
    if not checksum:
        body = json.loads(path.read_text())
        del body["sha256"]
        path.write_text(json.dumps(body))
    content = path.read_bytes()
    for _ in range(200):
        place = rng.randrange(len(content))
        turned = bytes([content[place] ^ 1 << rng.randrange(8)])
        path.write_bytes(content[:place] + turned + content[place + 1 :])
        try:
            found = load_study(study.out)
        except StoreError as error:
            refused += "Delete that one file" in str(error) and "\n" not in str(error)
            continue
        accepted += 1
        assert found is not None
        assert found.protocol.hash() == PROTOCOL.hash()
        if checksum:
            assert found == study
    assert refused + accepted == 200
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "value"), [("row", "ms2"), ("method", "triplet"), ("recipe", "sgd"), ("dataset", "x")]
)
def test_a_renamed_row_is_noticed(study, name, value) -> None:
    """Also where every hash is right: the cell's own record says what it is called."""
    other = replace(CELL, **{name: value})
    record = study.cell_record(CELL)
    replace(study, cells=(other,)).save()
    assert record is not None
    write(study.folder(other) / "cell.json", record)
    with pytest.raises(StoreError, match=f"{name} '{value}', .* in cell.json.*Delete that one"):
        load_study(study.out)
