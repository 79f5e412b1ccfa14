"""What a finished command proposes next: it starts, in the same folder and under the same rules."""

import shlex
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.models import mobilenet_v2

from benchmark.cli import main, make_parser
from benchmark.commands.models import remaking_command
from benchmark.commands.proposal import next_command, remember_words
from benchmark.models.address import Address
from benchmark.running.setup import set_up
from benchmark.study import grid
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from protocols import paper
from protocols.discovery import Registry
from protocols.errors import StoreError
from tests.proven import put

PLUGIN = '''"""A method of one's own."""
from protocols.method import Method, Term


class Mine(Method):
    """Pulls nothing apart."""

    def make_terms(self, spec):
        return [Term(lambda z, y: z.square().mean())]
'''
RULES = '''"""Rules of one's own."""
from dataclasses import replace

from protocols.specs.toy import PROTOCOL as TOY

PROTOCOL = replace(TOY, name="rules", seeds=3, match_cost_s=5.0)
'''
KINDS = {
    "as the protocol says": "--protocol toy",
    "fewer of all": "--protocol toy --methods ms --trials 1 --seeds 1",
    "own data": "--protocol toy --datasets folder:birds --root {here}/prepared",
    "a method's file": "--protocol toy --methods ms,mine --plugin {here}/mine.py",
    "a protocol's file": "--protocol rules --plugin {here}/rules.py",
    "two files": "--protocol rules --plugin {here}/rules.py --plugin {here}/mine.py --methods mine",
    "two trunks": "--protocol toy --trunks tiny,resnet50",
    "two recipes": "--protocol toy --methods ms,triplet --recipes adam,adamw",
    "another trunk": "--protocol toy --trunks resnet50",
    "oracle gap": "--protocol toy --oracle-gap",
    "bf16": "--protocol toy --precision bf16",
    "weights": "--protocol toy --trunks mobilenet_v2 --weights {here}/weights.pt",
    "same seconds": "--protocol rules --plugin {here}/rules.py --match-cost",
    "searched twice": "--protocol toy --search-repeats 2",
    "where it runs": "--protocol toy --jobs 2 --device cpu --deterministic",
}

# Run dry in the ordinary suite too; each takes seconds.
ORDINARY = {
    "own data",
    "a method's file",
    "a protocol's file",
    "two trunks",
    "oracle gap",
    "bf16",
}


@pytest.fixture
def here(tmp_path):
    """A folder with a blank in its name, own images, files of plugins and of weights."""
    here = tmp_path / "my work"
    here.mkdir()
    (here / "mine.py").write_text(PLUGIN)
    (here / "rules.py").write_text(RULES)
    torch.save(mobilenet_v2().state_dict(), here / "weights.pt")
    return here


def asked_for(words):
    return set_up(make_parser().parse_args(words))


def words_of(command):
    head, words = command.split()[:3], shlex.split(command)[3:]
    assert head == ["python", "-m", "benchmark"]
    return words


def start(words, here):
    """Return what a command asks for, as it stands when its study has been laid out."""
    parts = [word.format(here=here) for word in words.split()]
    if "folder:birds" in parts:
        bring_in_birds(here)
    asked = asked_for(["run", *parts, "--out", str(here / "out")])
    asked.study.save()
    grid.save_cells(asked.study, asked.cells)
    return asked


def bring_in_birds(here):
    for name in "abcdefghijklmnop":
        for number in range(4):
            path = here / "birds" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number, ord(name), 0)).save(path)
    words = ["data", "prepare", f"folder:{here / 'birds'}", "--root", str(here / "prepared")]
    assert main(words) == 0


def finish(asked, keys=None):
    for key in keys or asked.keys:
        put(asked.study, key, ChoiceRecord("x", key.id, "r", 0, {}, 0.5))
        for seed in range(asked.study.protocol.seeds):
            run = RunRecord(f"{seed}", key.id, seed, {}, "done", [])
            put(asked.study, key, run)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_finished_come_first_and_all_of_them(kind, here, monkeypatch):
    monkeypatch.chdir(here)
    asked = start(KINDS[kind], here)
    again = asked_for(words_of(next_command(asked)))
    assert set(again.keys) == set(asked.keys)
    assert again.study == asked.study


@pytest.mark.parametrize("kind", KINDS)
def test_then_comes_a_method_under_the_same_rules_on_the_same_grid(kind, here, monkeypatch):
    monkeypatch.chdir(here)
    asked = start(KINDS[kind], here)
    finish(asked)
    again = asked_for(words_of(next_command(asked)))
    fresh = [key for key in again.keys if key not in asked.keys]
    assert {key.axes[:3] for key in fresh} == {key.axes[:3] for key in asked.keys}
    assert len({key.method for key in fresh}) == 1
    assert again.study.protocol == asked.study.protocol
    assert again.study.out == asked.study.out
    assert again.options.plugin == asked.options.plugin
    assert (again.options.jobs, again.options.device) == (asked.options.jobs, asked.options.device)


def test_where_every_method_has_a_row_come_more_seeds(here):
    everything = "--protocol toy --methods " + ",".join(Registry().names("method"))
    asked = start(everything, here)
    finish(asked)
    again = asked_for(words_of(next_command(asked)))
    assert again.study.protocol.seeds == asked.study.protocol.seeds + 2
    assert {key.id for key in again.keys} == {key.id for key in asked.keys}


def test_what_the_machine_lost_comes_before_anything_new_and_not_twice_in_a_row(here):
    asked = start("--protocol toy --methods ms,triplet", here)
    finish(asked)
    (cell,) = (key for key in asked.keys if key.method == "ms")
    trial = TrialRecord("", cell.id, 0, {}, "failed", 0.0, [None, None], "non_finite")
    put(asked.study, cell, trial)
    assert "--retry-failed" not in next_command(asked)
    put(asked.study, cell, replace(trial, reason="oom"))
    command = next_command(asked)
    assert "--methods ms " in command
    assert command.endswith("--retry-failed")
    again = asked_for(words_of(command))
    assert {key.id for key in again.keys} <= {key.id for key in asked.keys}
    assert "--retry-failed" not in next_command(again), "it has just been tried"


def test_a_row_that_failed_is_ended_and_is_proposed_for_what_was_lost(here):
    asked = start("--protocol toy --methods ms", here)
    finish(asked)
    (cell,) = (key for key in asked.keys if key.method == "ms")
    (asked.study.folder(cell) / "choice.json").unlink()
    trial = TrialRecord("", cell.id, 0, {}, "failed", 0.0, [None, None], "oom")
    put(asked.study, cell, trial)
    for seed in range(asked.study.protocol.seeds):
        put(asked.study, cell, RunRecord("", cell.id, seed, {}, "failed", [], "oom"))
    assert "--retry-failed" in next_command(asked)


def test_a_row_of_an_earlier_command_that_lacks_seeds_is_completed(here):
    first = start("--protocol toy --methods triplet", here)
    finish(first)
    second = start("--protocol toy --methods ms --seeds 4", here)
    finish(second)
    again = asked_for(words_of(next_command(second)))
    assert again.options.methods == ("triplet",)
    assert again.study.protocol.seeds == 4


def test_completing_adds_no_cell_that_nobody_asked_for(here):
    start("--protocol toy --methods triplet --trunks tiny", here)
    asked = start("--protocol toy --methods ms --trunks resnet50", here)
    again = asked_for(words_of(next_command(asked)))
    assert {key.id for key in again.keys} <= {key.id for key in asked.study.cells}


def test_a_row_whose_file_is_not_at_hand_is_left_alone(here):
    start("--protocol toy --methods mine --plugin {here}/mine.py", here)
    asked = start("--protocol toy --methods ms", here)
    finish(asked)
    assert "mine" not in next_command(asked)


def test_unfinished_rows_of_own_images_are_proposed_by_the_path_that_was_typed(here, monkeypatch):
    monkeypatch.chdir(here)
    words = "--protocol toy --datasets folder:birds --root {here}/prepared --methods"
    start(f"{words} ms", here)
    asked = start(f"{words} triplet", here)
    again = asked_for(words_of(next_command(asked)))
    assert again.options.datasets == ("folder:birds",)
    assert {key.id for key in again.keys} <= {key.id for key in asked.study.cells}
    asked = start("--protocol toy --methods ms", here)  # names no path that leads to the images
    again = asked_for(words_of(next_command(asked)))
    assert again.options.datasets in (None, ("toy",))


def test_published_settings_lead_to_methods_that_have_them(here):
    words = "--protocol reality-check --datasets emoji --params published --methods untrained"
    words += " --weights none"
    asked = start(words, here)
    finish(asked)
    asked.sources["cub200"] = asked.sources.pop("emoji")
    (method,) = make_parser().parse_args(words_of(next_command(asked))).methods
    assert paper.best(method, "cub200")


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in ORDINARY else pytest.mark.faults) for kind in KINDS],
)
def test_the_proposed_command_runs_dry(kind, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    asked = start(KINDS[kind], here)
    assert main([*words_of(next_command(asked)), "--dry-run"]) == 0
    assert "jobs left" in capsys.readouterr().out


def missing(out, capsys):
    assert main(["reproduce", "--dataset", "cub200", "--out", str(out)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("missing: "))
    return make_parser().parse_args(words_of(line.removeprefix("missing: ")))


def test_what_the_paper_has_and_a_study_of_its_rules_lacks_comes_with_those(here, capsys):
    words = "--protocol reality-check --oracle-gap --seeds 3 --methods ms --datasets toy"
    words += " --weights none"
    asked = start(words, here)
    options = missing(asked.study.out, capsys)
    assert (options.seeds, options.oracle_gap, options.datasets) == (3, True, ("cub200",))
    assert options.out == asked.study.out
    options.datasets = ("toy",)
    assert set_up(options).study.protocol == asked.study.protocol


@pytest.mark.parametrize(
    "words",
    [
        "toy --trials 1",
        "standard --datasets toy --weights none",
        "reality-check --datasets toy --trunks tiny --weights none",
    ],
)
def test_what_a_study_of_other_rules_lacks_goes_into_a_folder_under_the_papers(here, words, capsys):
    asked = start(f"--protocol {words} --methods ms", here)
    options = missing(asked.study.out, capsys)
    assert options.protocol == "reality-check"
    assert (options.trials, options.trunks) == (None, None)
    assert options.out == asked.study.out.with_name("out-reality-check")


def test_the_papers_settings_go_into_a_folder_that_did_not_search(here, capsys):
    asked = start("--protocol toy", here)
    words = ["reproduce", "--table", "best-hyperparameters", "--dataset", "cub200"]
    assert main([*words, "--out", str(asked.study.out)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("run them: "))
    options = make_parser().parse_args(words_of(line.removeprefix("run them: ")))
    assert options.params == "published"
    assert options.out != asked.study.out
    assert all(paper.best(method, "cub200") for method in options.methods)


def address_in(asked, method="triplet"):
    """Return where the finished run of a method stands, with nothing kept of it."""
    (cell,) = (key for key in asked.keys if key.method == method and not key.repeat)
    return Address(cell, asked.study.run(cell, 0), (0, 1))


REMADE = {
    **{kind: KINDS[kind] for kind in ("as the protocol says", "own data", "weights", "oracle gap")},
    "own data with weights": "--protocol toy --methods triplet --datasets folder:birds "
    "--root {here}/prepared --trunks mobilenet_v2 --weights {here}/weights.pt",
    "a protocol's file": "--protocol rules --methods triplet --plugin {here}/rules.py",
}


@pytest.mark.parametrize("kind", REMADE)
def test_a_command_that_makes_weights_again_asks_for_the_same_cell_from_anywhere(
    kind, here, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(here)
    asked = start(REMADE[kind], here)
    finish(asked)
    remember_words(asked)
    monkeypatch.chdir(tmp_path)
    address = address_in(asked)
    command = remaking_command(asked.study, address, asked.options.plugin)
    again = asked_for(words_of(command))
    assert again.study == asked.study
    assert address.cell in again.keys
    assert {key.id for key in again.keys} <= {key.id for key in asked.keys}
    if kind == "own data with weights":
        assert main([*words_of(command), "--dry-run"]) == 0
        assert "again for weights that were not kept" in capsys.readouterr().out


def test_a_word_for_own_images_stands_in_commands_in_place_of_their_path(here, monkeypatch):
    monkeypatch.chdir(here)
    asked = start(KINDS["own data"], here)
    words = ["data", "prepare", "folder:birds", "--root", "prepared", "--name", "birds"]
    assert main(words) == 0
    finish(asked)
    remember_words(asked)
    again = asked_for(words_of(remaking_command(asked.study, address_in(asked))))
    assert again.options.datasets == ("birds",)
    assert again.study == asked.study


def test_of_what_was_never_written_down_a_command_says_what_is_to_be_filled_in(here, monkeypatch):
    monkeypatch.chdir(here)
    asked = start(REMADE["own data with weights"], here)
    finish(asked)
    words = words_of(remaking_command(asked.study, address_in(asked)))
    options = make_parser().parse_args(words)
    assert (options.datasets, str(options.root)) == (("folder:PATH",), "DIR")
    assert options.weights == "FILE"
    assert len([word for word in words if word.startswith("--")]) == len(
        {word for word in words if word.startswith("--")}
    )


def test_further_searches_are_asked_for_again(here):
    asked = start(KINDS["searched twice"], here)
    finish(asked)
    (cell,) = (key for key in asked.keys if key.repeat)
    command = remaking_command(asked.study, Address(cell, asked.study.run(cell, 0), (0, 1)))
    assert cell in asked_for(words_of(command)).keys


@pytest.mark.parametrize("content", ["{", "[1]", '{"datasets": 1}', '{"roots": {"x": 1}}'])
def test_a_damaged_list_of_words_says_what_to_do(content, here):
    asked = start("--protocol toy", here)
    finish(asked)
    (asked.study.out / "given.json").write_text(content)
    with pytest.raises(StoreError, match=r"given\.json is damaged.*Delete it"):
        remaking_command(asked.study, address_in(asked))


def test_a_title_of_tables_is_no_name_and_the_error_says_what_is(here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    bring_in_birds(here)
    words = ["data", "prepare", "folder:birds", "--root", "prepared", "--name", "swans"]
    assert main(words) == 0
    capsys.readouterr()
    for command in (
        ["run", "--protocol", "toy", "--datasets", "folder:birds@12345678", "--root", "prepared"],
        ["data", "check", "folder:birds@12345678", "--root", "prepared"],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "how tables show images of your own" in said
        assert "swans" in said
        assert "data prepare folder:birds@" not in said


@pytest.mark.parametrize(
    "command", [["run", "--protocol", "toy", "--datasets"], ["data", "check"], ["data", "prepare"]]
)
def test_words_of_a_root_are_among_the_suggestions(command, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    bring_in_birds(here)
    words = ["data", "prepare", "folder:birds", "--root", "prepared", "--name", "swans"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*command, "swan", "--root", "prepared"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'swans'" in said
    assert "emoji" in said
