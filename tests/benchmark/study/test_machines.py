"""One study, one kind of device; unlike machines within a kind are kept and said."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmark.cli import main
from benchmark.report import page
from benchmark.running import outcomes, setup
from benchmark.study import machines, records
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord, RunRecord
from benchmark.study.spending import spending
from benchmark.submissions import packing, submit
from benchmark.tables import formats
from benchmark.tables.costs import frame as costs
from benchmark.tables.frames import make_tables
from benchmark.tables.headlines import headlines
from benchmark.tables.machines import notes
from benchmark.training import device
from protocols.discovery import load
from protocols.errors import StoreError
from protocols.metrics import METRICS
from tests.proven import proven, put

PROTOCOL = load("protocol", "toy")
A100 = {"device": "NVIDIA A100", "device_kind": "cuda", "torch": "2.11.0", "cudnn": "91002"}
H100 = {**A100, "device": "NVIDIA H100"}
OLD = {"device": "cpu, 1 thread(s)", "torch": "2.11.0"}  # before kinds were recorded
CPU = {**OLD, "device_kind": "cpu", "cpu_capability": "AVX2"}


def job(fold=0, environment=None, **changes):
    measured = {} if environment is None else {"environment": environment}
    kept = {"status": "done", "measured": measured, **changes}
    return JobRecord("j", "c", "search", 0, fold, {}, **kept)


def make_study(out, *cells):
    keys = [CellKey(f"{name}-id", "toy", "tiny", "adam", name, name) for name in cells]
    return Study(out, PROTOCOL, tuple(keys))


def add_run(study, cell, seed, environment):
    scores = dict.fromkeys(METRICS, 0.5)
    measured = {"environment": environment}
    run = RunRecord(
        f"r{seed}",
        cell.id,
        seed,
        {},
        "done",
        [],
        separated=scores,
        concatenated=scores,
        measured=measured,
    )
    put(study, cell, run)


def test_a_jobs_environment_says_kind_switches_and_cpu():
    found = device.described("cpu")
    assert found["device_kind"] == "cpu"
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["threads"] == torch.get_num_threads()
    assert found["matmul_precision"] == torch.backends.mkldnn.matmul.fp32_precision
    before = torch.backends.mkldnn.conv.fp32_precision
    try:
        for word in ("ieee", "bf16"):  # read back, whoever set it
            torch.backends.mkldnn.conv.fp32_precision = word
            assert device.described("cpu")["conv_precision"] == word
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


def test_a_torch_without_the_switches_says_unknown(monkeypatch):
    monkeypatch.setattr(torch, "backends", SimpleNamespace(cudnn=SimpleNamespace()))
    assert device._precision("cudnn.conv") == "unknown"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat\nGCC",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Rel", "560.35.03"),
        ("something else", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_drivers_version_is_read_from_its_module(tmp_path, text, version):
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert device._driver(tmp_path / "version") == version


def test_a_run_keeps_the_environments_of_all_its_folds():
    alike = machines.merged([job(0, A100), job(1, A100)])
    assert alike == A100
    assert machines.mixed(alike) == []
    unlike = machines.merged([job(0, A100), job(1, H100), job(2, A100)])
    assert unlike == {**A100, "device": "NVIDIA A100 + NVIDIA H100"}
    assert machines.mixed(unlike) == ["device"]
    assert machines.parted(unlike, "device") == ["NVIDIA A100", "NVIDIA H100"]
    assert machines.merged([job(0, OLD), job(1, CPU)])["device_kind"] == "unknown + cpu"
    # A job whose worker was lost says nothing but the commit: it hides no other fold's words.
    assert machines.merged([job(0, {"commit": "x"}), job(1, A100)]) == A100
    assert machines.merged([]) == machines.merged([job(0)]) == {}


def test_trials_and_runs_carry_what_their_folds_were_made_with():
    key = CellKey("c", "toy", "tiny", "adam", "ms", "ms")
    scored = {"validation": dict.fromkeys(METRICS, 0.5)}
    folds = [job(0, A100, **scored), job(1, H100, **scored)]
    trial = outcomes.trial_of(key, 0, {}, folds, PROTOCOL)
    assert trial.measured["environment"]["device"] == "NVIDIA A100 + NVIDIA H100"
    assert outcomes._sum_measured(folds)["environment"] == trial.measured["environment"]


@pytest.mark.parametrize("held", [None, "cpu", "cuda"])
def test_a_study_goes_on_on_its_own_kind_of_device_alone(tmp_path, held):
    study = make_study(tmp_path, "ms", "triplet")
    cell = study.cells[1]
    # Neither an old record nor a lost worker's says a kind; one that does decides.
    for fold, environment in enumerate((OLD, {"commit": "x"})):
        records.write(study.job_path(cell, "search", 0, fold), job(fold, environment))
    if held:
        said = {"cpu": CPU, "cuda": A100}[held]
        records.write(study.job_path(cell, "search", 1, 0), job(0, said))
    assert machines.device_kind(study) == held
    for kind in ("cpu", "cuda"):
        if held in (None, kind):
            setup.check_same_kind(study, kind)
        else:
            with pytest.raises(StoreError, match=rf"made on {held}.* on {kind}.*--device {held}"):
                setup.check_same_kind(study, kind)


def test_the_refusal_is_one_line_before_anything_starts(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["run", "--protocol", "toy", "--jobs", "1", "--out", str(out)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    args = setup_args(command)
    study = setup.set_up(args).study
    cell = study.cells[0]
    path = study.job_path(cell, "search", 0, 0)
    records.write(path, proven(replace(job(0, A100), cell=cell.id)))
    before = sorted(out.rglob("*"))
    for words in (command, [*command, "--dry-run"], [*command, "--device", "cpu"]):
        capsys.readouterr()
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "made on cuda" in line
        assert "--device cuda" in line
    kept = [p for p in sorted(out.rglob("*")) if p.suffix == ".json"]
    assert kept == [p for p in before if p.suffix == ".json"]


def setup_args(command):
    from benchmark.cli import make_parser

    return make_parser().parse_args(command)


def test_tables_and_report_say_where_unlike_machines_meet(tmp_path):
    study = make_study(tmp_path, "ms", "triplet", "group")
    for number, cell in enumerate(study.cells):
        for seed in range(PROTOCOL.seeds):
            add_run(study, cell, seed, H100 if (number, seed) == (1, 1) else A100)
    tables = make_tables(study)
    (said,) = notes(tables.cells).values()
    assert said == (
        "made on unlike machines: device NVIDIA A100 (group, ms, triplet), NVIDIA H100 (triplet)"
    )
    (headline,) = headlines(tables)
    assert headline.caption.endswith(said)
    assert said in formats.to_format(tables, "md")["headline.md"].decode()
    assert f"{said}." in page.render(tables)
    paid = costs(tables.cells, spending(study))
    devices = dict(zip(paid["method"], paid["device"], strict=True))
    assert devices["triplet"] == "NVIDIA A100 + NVIDIA H100"
    assert devices["ms"] == "NVIDIA A100"


def test_a_run_of_two_environments_is_not_submitted(tmp_path):
    study = make_study(tmp_path, "ms")
    add_run(study, study.cells[0], 0, {**A100, "commit": "a + b", "system": "Linux + macOS"})
    with pytest.raises(StoreError, match=r"seed 0 .*unlike environments \(commit a \+ b\)"):
        submit._check_one_environment(study.runs(study.cells[0])[0], "here")


def test_how_a_card_was_shared_moves_no_number_and_stops_no_submission(tmp_path):
    study, together = make_study(tmp_path, "ms", "triplet"), {**A100, "mps": True}
    merged = machines.merged([job(0, together), job(1, A100)])
    add_run(study, study.cells[0], 0, merged)
    add_run(study, study.cells[1], 0, together)
    assert notes(make_tables(study).cells) == {}
    for cell in study.cells:
        submit._check_one_environment(study.runs(cell)[0], "here")
    assert "mps" not in packing.ENVIRONMENT, "a row of results/ says what can move its numbers"


def test_rows_made_alike_say_nothing(tmp_path):
    study = make_study(tmp_path, "ms", "triplet")
    for cell in study.cells:
        add_run(study, cell, 0, CPU)
    tables = make_tables(study)
    assert notes(tables.cells) == {}
    assert "unlike machines" not in headlines(tables)[0].caption + page.render(tables)


def test_old_rows_beside_new_ones_are_of_unknown_kind(tmp_path):
    study = make_study(tmp_path, "ms", "triplet")
    for cell, environment in zip(study.cells, (OLD, CPU), strict=True):
        add_run(study, cell, 0, environment)
    (said,) = notes(make_tables(study).cells).values()
    assert "kind unknown (ms), cpu (triplet)" in said
    assert "CPU instructions unknown (ms), AVX2 (triplet)" in said
    assert "torch" not in said
