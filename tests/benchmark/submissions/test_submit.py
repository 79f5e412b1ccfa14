"""submit: what it copies, what it refuses, and the way back for a rerun."""

import json
import shutil
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.study.folder import CellKey, Study, _checksum, _read_file, load_study
from benchmark.submissions import schema
from benchmark.submissions import submit as submit_module
from benchmark.submissions.read import read_row
from benchmark.submissions.submit import write_once
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, StoreError
from protocols.metrics import METRICS
from protocols.space import Choice, Integer, Real, described, rebuilt
from protocols.specs.quick import PROTOCOL as QUICK
from protocols.verification import names as names_of_pairs
from tests.benchmark import rows

RUN_FILES = (("seed", "json"), ("values", "npz"))


@pytest.fixture
def study(toy_study, tmp_path):
    """A copy of the finished study, without its mirror."""
    keep = shutil.ignore_patterns("mlflow*", "search.db", "report", "cache")
    shutil.copytree(toy_study, tmp_path / "study", ignore=keep)
    return tmp_path / "study"


def refused(study, tmp_path, capsys, *words):
    """Return the one line of a refused submission, which wrote nothing."""
    results = tmp_path / "refused" / "results"
    results.mkdir(parents=True)
    capsys.readouterr()
    assert rows.submit(study, results, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not list(results.iterdir())
    return line


def change_study(study, change):
    """Forge a study file, with hashes that are right."""
    path = study / "study.json"
    body = json.loads(path.read_text())
    change(body)
    del body["sha256"]
    protocol = _read_file(json.dumps(body).encode()).protocol
    body |= {"protocol_hash": protocol.hash(), "rules_hash": protocol.rules_hash()}
    path.write_text(json.dumps({**body, "sha256": _checksum(body)}))


@pytest.mark.parametrize("committed", [False, True], ids=["removed", "removal committed"])
def test_a_row_that_was_removed_is_named_as_the_predecessor(toy_study, tmp_path, capsys, committed):
    results = tmp_path / "results"
    results.mkdir()
    rows.git(tmp_path, "init", "--quiet")
    rows.git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "first")
    assert rows.submit(toy_study, results) == 0
    assert "replaces" not in capsys.readouterr().out
    claim = results / "toy" / "toy" / "ms" / "claim.toml"
    assert tomllib.loads(claim.read_text())["predecessor"] == ""
    rows.git(tmp_path, "add", "-A")
    rows.git(tmp_path, "commit", "--quiet", "-m", "rows")
    held = rows.git(tmp_path, "rev-parse", "HEAD")
    rows.git(tmp_path, "rm", "-rq", "results/toy/toy/ms")
    if committed:
        rows.git(tmp_path, "commit", "--quiet", "-m", "removed")
    assert rows.submit(toy_study, results) == 0
    assert f"replaces the row of commit {held[:12]}" in capsys.readouterr().out
    assert tomllib.loads(claim.read_text())["predecessor"] == held
    others = [p for p in results.glob("toy/toy/*/claim.toml") if p != claim]
    assert others
    assert all(tomllib.loads(p.read_text())["predecessor"] == "" for p in others)


def test_every_finished_row_is_copied_with_what_verifies_it(toy_study, submitted):
    folder = submitted / "results" / "toy" / "toy" / "ms"
    names = {path.name for path in folder.iterdir()}
    runs = {f"{kind}-{seed}.{end}" for seed in (0, 1) for kind, end in RUN_FILES}
    assert names == {"cell.json", "trials.jsonl", "claim.toml", *runs}
    study = load_study(toy_study)
    (key,) = [cell for cell in study.cells if cell.method == "ms"]
    cell = json.loads((folder / "cell.json").read_text())
    assert cell["id"] == key.id
    assert cell["protocol_hash"] == study.protocol.hash()
    assert cell["space"]["alpha"] == {
        "kind": "real",
        "low": 0.001,
        "high": 100.0,
        "log": True,
        "default": 2.0,
    }
    for run in study.runs(key):
        body = json.loads((folder / f"seed-{run.seed}.json").read_text())
        kept = {k: v for k, v in run.concatenated.items() if k not in names_of_pairs()}
        assert body["concatenated"] == kept, "of pairs a row has nothing"
        assert len(kept) < len(run.concatenated)
        # Recalls and MAP@10 are kept of the joined embedding alone.
        assert body["folds"] == [{name: fold[name] for name in METRICS} for fold in run.folds]
        assert body["separated"] == {name: run.separated[name] for name in METRICS}
        assert body["queries_sha256"] == run.queries["sha256"]
    lines = (folder / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines] == [t.value for t in study.trials(key)]
    assert all(json.loads(line)["seconds"] > 0 for line in lines)
    took = json.loads((folder / "cell.json").read_text())["took"]
    runs = [json.loads(path.read_text()) for path in folder.glob("seed-*.json")]
    parts = [*map(json.loads, lines), *runs]
    assert took["seconds"] == pytest.approx(sum(part["seconds"] for part in parts))
    assert 0 < took["machine_s"] <= took["seconds"]
    assert took["cpu_s"] > 0
    assert "gpu_s" not in took, "nothing was spent of a card"


def test_nothing_names_a_machine_or_a_path(toy_study, submitted):
    import platform

    paths = sorted((submitted / "results").rglob("*.json*"))
    assert {"cell.json", "seed-0.json", "trials.jsonl"} <= {path.name for path in paths}
    for path in paths:
        text = path.read_text()
        for word in (str(toy_study), platform.node(), platform.release(), "/tmp", "records/"):
            assert word not in text, f"{path} names {word}"


def test_a_row_is_small(submitted):
    """Ten seeds and fifty trials stay near 30 kB, and so does what a run found for its queries."""
    folder = submitted / "results" / "toy" / "toy" / "ms"
    size = {path.name: path.stat().st_size for path in folder.iterdir()}
    trial = size["trials.jsonl"] / 2
    assert size["cell.json"] + 10 * size["seed-0.json"] + 50 * trial < 34_000
    queries = len(np.load(folder / "values-0.npz")["query"])
    # 3,651 queries of emoji make 30 kB; on so few as here the names of the arrays count
    assert size["values-0.npz"] < 4_000 + 8 * queries


def test_the_schema_knows_every_metric():
    assert tuple(schema.Scores.model_fields) == METRICS


def test_a_second_time_it_changes_nothing(study, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results) == 0
    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    assert rows.submit(study, results) == 0
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before


def test_a_row_that_is_there_stays_whatever_the_clock_said(study, tmp_path, capsys):
    """Somebody else ran the same cell: other seconds, perhaps other last bits."""
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results, "--methods", "triplet") == 0
    assert {p.name for p in (results / "toy" / "toy").iterdir()} == {"triplet"}
    other = {"seconds": 9.0, "peak_memory_mb": 1}
    for path in (results / "toy" / "toy" / "triplet").glob("seed-*.json"):
        rows.edit(path, lambda body: body.update(other))
    cell = results / "toy" / "toy" / "triplet" / "cell.json"
    rows.edit(cell, lambda body: body["took"].update(machine_s=8.0, package_j=1.0))
    before = {p: p.read_bytes() for p in (results / "toy" / "toy" / "triplet").iterdir()}
    capsys.readouterr()
    assert rows.submit(study, results) == 0
    assert "triplet is there already and stays" in capsys.readouterr().out
    assert {p.name for p in (results / "toy" / "toy").iterdir()} == {"ms", "triplet", "untrained"}
    assert {p: p.read_bytes() for p in before} == before


def test_who_and_hardware_stand_in_every_new_claim(study, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    words = ["submit", str(study), "--results", str(results), "--methods", "ms"]
    assert main([*words, "--who", 'A. "Q" Claimant', "--hardware", "=1+1"]) == 0
    assert (
        'recorded as run by A. "Q" Claimant, on =1+1; if not, correct the new .toml'
        in capsys.readouterr().out
    )
    claim = read_row(results, results / "toy" / "toy" / "ms").claim
    assert (claim.who, claim.hardware) == ('A. "Q" Claimant', "=1+1")
    assert main([*words, "--who", "Another", "--hardware", "another"]) == 0
    assert "Another" not in capsys.readouterr().out, "the row is there, so nobody signs"
    assert main([*words, "--who", "x", "--claim", "claim.toml"]) == 2
    assert "--claim says who" in capsys.readouterr().err
    assert main([*words, "--challenge", "2026-01-31", "--claim", "claim.toml"]) == 2
    assert "of a --challenge say --who and --hardware" in capsys.readouterr().err


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(0)"])
def test_a_space_that_raises_is_one_line(raised, study, tmp_path, capsys, monkeypatch):
    class Odd:
        @classmethod
        def space(cls, dataset, bounds):
            raise eval(raised)

    monkeypatch.setattr(Registry, "load", lambda self, kind, name: Odd)
    line = refused(study, tmp_path, capsys)
    assert "the search space of Odd raises" in line


def test_a_method_that_the_study_has_not_is_named(study, tmp_path, capsys):
    line = refused(study, tmp_path, capsys, "--methods", "mss")
    assert "no method of this study 'mss'. Did you mean 'ms'?" in line


def test_rows_of_some_datasets_are_copied_while_others_are_unfinished(study, tmp_path, capsys):
    def further(body):
        twin = next(dict(cell) for cell in body["cells"] if cell["method"] == "ms")
        body["cells"].append({**twin, "id": "0" * 16, "dataset": "emoji"})

    change_study(study, further)
    assert "ms on emoji has" in refused(study, tmp_path / "all", capsys)
    line = refused(study, tmp_path / "misspelt", capsys, "--datasets", "emojis")
    assert "no dataset of this study 'emojis'. Did you mean 'emoji'?" in line
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results, "--datasets", "toy") == 0
    assert {p.name for p in (results / "toy" / "toy").iterdir()} == {"ms", "triplet", "untrained"}


def test_a_row_that_was_told_more_is_refused_and_the_others_are_not(study, tmp_path, capsys):
    def told(body):
        (key,) = (cell for cell in body["cells"] if cell["method"] == "ms")
        key["side"] = "names"

    change_study(study, told)
    line = refused(study, tmp_path, capsys)
    assert "ms was told the names of classes" in line
    assert "Name the others with --methods" in line
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results, "--methods", "triplet") == 0


def test_what_is_there_is_never_overwritten(study, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results) == 0
    path = results / "toy" / "toy" / "ms" / "seed-1.json"
    path.write_text("other")
    (results / "toy" / "toy" / "ms" / "seed-0.json").unlink()
    assert rows.submit(study, results) == 2
    assert "never edited" in capsys.readouterr().err
    assert path.read_text() == "other"
    assert not path.with_name("seed-0.json").exists(), "all or nothing"


def test_a_link_is_not_written_through(tmp_path):
    target = tmp_path / "target"
    target.write_text("same")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(StoreError, match="exists and differs"):
        write_once({tmp_path / "link": b"same"})


def test_an_unfinished_study_is_refused(study, tmp_path, capsys):
    next(study.glob("records/toy/tiny/adam/ms-*/seed-1.json")).unlink()
    assert "ms on toy has 1 of 2 runs" in refused(study, tmp_path, capsys)


def test_a_row_whose_search_failed_says_so(study, tmp_path, capsys):
    """No setting was chosen, so running again, as for an unfinished one, would change nothing."""
    from benchmark.study import records

    (folder,) = study.glob("records/toy/tiny/adam/ms-*")
    (folder / "choice.json").unlink()
    detail = "every trial of the search failed: 2 error"
    for path in folder.glob("seed-?.json"):
        run = records.load(path)
        gone = dict.fromkeys(("separated", "concatenated", "validation", "excluded"))
        gone |= dict.fromkeys(("embeddings_sha256", "embeddings_shape", "queries"))
        failed = {"status": "failed", "reason": "error", "detail": detail, "folds": []}
        records.write(path, replace(run, **failed, **gone))
    said = " ".join(refused(study, tmp_path, capsys).split())
    assert f"{detail}, so there is no row. Fix the method and run it again" in said


def test_runs_of_an_edited_checkout_are_named_as_what_verify_refuses(study, tmp_path, capsys):
    from benchmark.study import records

    for path in study.glob("records/toy/tiny/adam/ms-*/seed-1*.json"):
        record = records.load(path)
        made_with = {**record.measured["environment"], "dirty": True}
        records.write(path, replace(record, measured={**record.measured, "environment": made_with}))
    (tmp_path / "results").mkdir()
    capsys.readouterr()
    assert rows.submit(study, tmp_path / "results") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "checkout with uncommitted changes. Commit, run into a new --out folder" in said


def test_a_run_that_the_machine_lost_is_refused_a_diverged_one_is_a_result(study, tmp_path, capsys):
    from benchmark.study import records

    path = next(study.glob("records/toy/tiny/adam/ms-*/seed-1.json"))
    run = records.load(path)
    lost = replace(
        run,
        status="failed",
        detail="Error: /home/somebody/secret",
        folds=[None, None],
        **dict.fromkeys(("separated", "concatenated", "validation", "excluded")),
        **dict.fromkeys(("embeddings_sha256", "embeddings_shape", "queries")),
    )
    records.write(path, replace(lost, reason="crash"))
    said = refused(study, tmp_path, capsys)
    assert "seed 1 (1 crash) lost to the machine" in said
    assert "--retry-failed" in said
    records.write(path, replace(lost, reason="error"))
    assert "seed 1 failed (error)" in refused(study, tmp_path / "again", capsys)
    records.write(path, replace(lost, reason="non_finite"))
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results) == 0
    assert "secret" not in (results / "toy" / "toy" / "ms" / "seed-1.json").read_text()
    found = [p for p in rows.verify(results, capsys)[1] if "uncommitted" not in p]
    assert found == []
    lines = (results / "leaderboard.csv").read_text().splitlines()
    (row,) = [r for r in lines if ",ms,concatenated,map_at_r," in r]
    assert ",1,2," in row, "one of two runs, and no mean of the survivor as if it were both"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b["protocol"].update(version=99), "ran version 99"),
        (lambda b: b["protocol"].update(overrides={"trials": 3}), "trials 3"),
        (lambda b: b["protocol"].update(seeds=1), "seeds 1"),
        (lambda b: b["protocol"].update(batch_size=8), "its rules differ"),
        (lambda b: b["protocol"].update(name="mine"), "does not ship here"),
    ],
)
def test_another_protocol_is_refused(change, said, study, tmp_path, capsys):
    change_study(study, change)
    assert said in refused(study, tmp_path, capsys)


def test_edited_code_is_refused(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Registry, "code_digest", lambda self, kind, name: "0" * 12)
    assert "is not that of the study any more" in refused(study, tmp_path, capsys)


@pytest.mark.parametrize(
    "name", ["<script>", "../../x", "..", ".hidden", "a/b", "a\\b", "-rf", "A", "a\n", "=1+1", ""]
)
@pytest.mark.parametrize("field", ["dataset", "method"])
def test_a_hostile_name_is_refused_before_anything_is_written(field, name, study, tmp_path, capsys):
    def change(body):
        cell = next(c for c in body["cells"] if c["method"] == "ms")
        old = CellKey(**cell).path
        cell[field] = name
        cell["row"] = cell["method"]
        new = study / "records" / CellKey(**cell).path
        if field == "method":
            shutil.move(study / "records" / old, new)

    change_study(study, change)
    line = refused(study, tmp_path, capsys)
    assert repr(name) in line
    assert {p.name for p in tmp_path.iterdir()} == {"study", "refused"}


@pytest.mark.parametrize("title", ["folder:shop@12345678", "csv:list@12345678"])
def test_own_images_have_no_row(title):
    with pytest.raises(InvalidInputError, match=r"own images have no row.*Add a dataset"):
        submit_module.folder_of(
            load("protocol", "toy"), CellKey("x", title, "tiny", "adam", "ms", "ms")
        )


def test_a_row_off_the_defaults_has_a_folder_of_its_own():
    default = ("tiny", "adam")
    name = schema.folder_name
    assert name("ms", "tiny", "adam", default) == "ms"
    assert name("ms", "mobilenet_v2", "adam", default) == "ms+mobilenet_v2.adam"
    assert name("ms", "timm:resnet18.a1", "paper", default) == "ms+timm-resnet18.a1.paper"
    assert name("ms", "tiny+0a1b2c3d", "adam", default) == "ms+tiny+0a1b2c3d.adam"
    for trunk in ("../x", "a/b", "..", "a b", "<b>"):
        with pytest.raises(InvalidInputError):
            name("ms", trunk, "adam", default)


def test_the_bounds_are_those_that_the_protocol_searched():
    registry = Registry()
    code = registry.code_digest("method", "ms")
    record = SimpleNamespace(method="ms", dataset="cub200", identity={"method_code": code})
    found = {}
    for bounds in ("wide", "narrow"):
        rule = replace(QUICK.search, bounds=bounds)
        space = submit_module._space(record, replace(QUICK, search=rule), registry)
        found[bounds] = described(space)
        wanted = registry.load("method", "ms").space("cub200", bounds)
        assert found[bounds] == described(wanted)
    assert found["wide"] != found["narrow"]


def test_a_space_survives_as_data():
    space = {
        "a": Real(0.1, 10, default=1, log=True),
        "b": Integer(1, 3, default=2),
        "c": Choice(("x", "y"), default="y"),
    }
    cell = schema.Cell.model_fields["space"].annotation
    from pydantic import TypeAdapter

    data = json.loads(json.dumps(described(space)))
    read = TypeAdapter(cell).validate_python(data, strict=True)
    again = rebuilt({name: bounds.model_dump() for name, bounds in read.items()})
    for name, parameter in space.items():
        assert vars(again[name]) == {**vars(parameter), "name": name}


def test_a_claim_can_be_rerun_without_its_search(study, toy_study, tmp_path, capsys):
    """CONTRIBUTING's way to verify a row: rerun, run, submit --challenge, verify."""
    results, again = tmp_path / "results", tmp_path / "run again"
    results.mkdir()
    assert rows.submit(study, results) == 0
    assert main(["rerun", str(results / "toy" / "toy" / "ms"), "--out", str(again)]) == 0
    printed = capsys.readouterr().out
    assert "--methods ms --datasets toy --trunks tiny --recipes adam --seeds 2" in printed
    assert printed.count(f"'{again}'") == 2, "both commands can be pasted into a shell"
    rows.run(again, "--methods", "ms", "--seeds", "2", mirror=toy_study / "mlflow.db")
    assert not list(again.glob("records/**/trial-*.json")), "the search is not repeated"
    words = ("submit", str(again), "--results", str(results), "--challenge", "2026-01-31")
    assert main([*words, "--who", "B. Other", "--hardware", "another"]) == 0
    assert "by B. Other, on another" in capsys.readouterr().out
    folder = results / "toy" / "toy" / "ms"
    for seed in (0, 1):
        claimed = json.loads((folder / f"seed-{seed}.json").read_text())
        rerun = json.loads((folder / "challenge-2026-01-31" / f"seed-{seed}.json").read_text())
        assert rerun["embeddings_sha256"] == claimed["embeddings_sha256"], "the same bits on a CPU"
    assert main(["verify", str(results), "--rebuild"]) in (0, 2)
    found = [p for p in rows.verify(results, capsys)[1] if "uncommitted" not in p]
    assert found == []


def test_a_challenge_reran_the_claimed_cell(study, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results) == 0
    rows.reidentify(
        results / "toy" / "toy" / "ms", lambda body: body["identity"].update(method_code="0" * 12)
    )
    words = ["submit", str(study), "--results", str(results), "--challenge"]
    assert main([*words, "2026-01-31"]) == 2
    assert "ran another cell" in capsys.readouterr().err
    assert main([*words, "../../x"]) == 2
    assert "expected a date" in capsys.readouterr().err


def test_a_reference_row_that_came_along_holds_no_challenge_up(study, tmp_path, capsys):
    """Its row may be of an earlier version; who names it is told."""
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(study, results) == 0
    base = results / "toy" / "toy"
    rows.reidentify(base / "untrained", lambda body: body["identity"].update(method_code="0" * 12))
    words = ["submit", str(study), "--results", str(results), "--challenge", "2026-01-31"]
    assert main([*words, "--methods", "untrained"]) == 2
    assert "ran another cell" in capsys.readouterr().err
    assert main([*words, "--methods", "ms"]) == 0
    assert [p.parent.name for p in base.glob("*/challenge-2026-01-31.toml")] == ["ms"]
    assert main([*words, "--who", "B. Other", "--hardware", "another"]) == 0
    found = sorted(p.parent.name for p in base.glob("*/challenge-2026-01-31.toml"))
    assert found == ["ms", "triplet"]


def test_a_study_begun_with_fewer_seeds_can_be_submitted_once_it_has_them_all(tmp_path):
    toy = load("protocol", "toy")
    begun = replace(toy, overrides={"seeds": toy.seeds - 1})  # as earlier versions left it
    assert submit_module.check_protocol(Study(tmp_path, begun)) == toy
    fewer = replace(begun, seeds=toy.seeds - 1)
    with pytest.raises(StoreError, match=rf"ran a changed 'toy' \(seeds {toy.seeds - 1}\)"):
        submit_module.check_protocol(Study(tmp_path, fewer))
    assert submit_module.check_protocol(Study(tmp_path, fewer), any_seeds=True) == toy
