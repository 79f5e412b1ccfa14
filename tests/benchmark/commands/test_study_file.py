"""Study files: written, read back, overruled, and refused with the line that is wrong."""

import re

import pytest

from benchmark.cli import main, make_parser
from benchmark.commands.proposal import continuing_command, run_command
from benchmark.commands.study_file import written
from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.running.setup import read_protocol, set_up
from benchmark.study.folder import load_study
from protocols.discovery import Registry, load
from protocols.study_file import line_of, read_study_file

PROTOCOLS = (
    "box",
    "box-finetune",
    "emoji",
    "finetune",
    "photos",
    "quick",
    "reality-check",
    "standard",
    "toy",
)


def parsed(*words):
    """Return a command's options as the program reads them, study file included."""
    parser = make_parser()
    args = parser.parse_args(words)
    if args.file:
        args.parser.set_defaults(**read_study_file(args.file))
        args = parser.parse_args(words)
    return args


def rules_of(*words):
    args = parsed(*words)
    return read_protocol(args, Registry(tuple(args.plugin)))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_written_file_read_back_is_the_protocol_itself(name, tmp_path):
    protocol = load("protocol", name)
    path = tmp_path / "study.toml"
    text = written(protocol, load("recipe", protocol.recipe), path)
    path.write_text(text)
    assert rules_of("run", str(path)) == protocol
    # and so it is where every line that shows a value is taken into use
    used = re.sub(r"^# (?=\S+ = [^ ])", "", text, flags=re.MULTILINE)
    used = re.sub(r"^(beta|alpha|plugin) = .*\n", "", used, flags=re.MULTILINE)
    path.write_text(used)
    found = rules_of("run", str(path))
    assert (found.hash(), found.overrides) == (protocol.hash(), {})
    assert used.count("\n# ") < 12


STUDY = """\
# a study
protocol = "toy"
methods = ["ms", "triplet"]
seeds = 5
image.flip = 0.5

[image]
area = [
  0.25,  # a comment
  0.75,
]
[search]
trials = 4
[method.ms]
beta = 30
[recipe]
lr = 0.002
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "shoes.toml"
    path.write_text(STUDY.replace("image.flip = 0.5\n", ""))
    return path


def test_names_and_rules_of_a_file_hold_and_what_is_typed_overrules_them(study):
    args = parsed("run", str(study))
    assert args.methods == ("ms", "triplet")
    found = read_protocol(args, Registry())
    assert found.overrides == {
        "image.area": (0.25, 0.75),
        "method.ms.beta": 30.0,
        "recipe.lr": 0.002,
        "seeds": 5,
        "trials": 4,
    }
    typed = ("--methods", "ms", "--seeds", "7", "--set", "search.trials=6", "--set", "seeds=9")
    over = parsed("run", str(study), *typed)
    assert over.methods == ("ms",)
    found = read_protocol(over, Registry())
    assert (found.seeds, found.search.trials) == (7, 6)
    assert rules_of("run", str(study), "--trials", "2").overrides.keys() == {
        "image.area",
        "method.ms.beta",
        "recipe.lr",
        "seeds",
    }


def test_the_next_command_names_the_file_and_only_what_differs_from_it(study):
    args = parsed("run", str(study), "--set", "embedding_size=16")
    command = run_command(args, seeds=7)
    assert command == (f"python -m benchmark run {study} --seeds 7 --set embedding_size=16")
    again = parsed(*command.split()[3:])
    assert read_protocol(again, Registry()).seeds == 7


def test_a_study_without_its_file_is_continued_by_options(study, tmp_path):
    args = parsed("run", str(study), "--out", str(tmp_path / "out"))
    known = set_up(args).study
    command = continuing_command(known, known.out, {"methods": ("npair",)})
    words = [word.strip("'") for word in command.split(" --")]
    assert "set method.ms.beta=30.0" in words
    import shlex

    found = read_protocol(parsed(*shlex.split(command)[3:]), Registry())
    assert found.rules_hash() == known.protocol.rules_hash()


LINES = [
    ("protocol", 2),
    ("methods", 3),
    ("seeds", 4),
    ("image.area", 8),
    ("search.trials", 13),
    ("method.ms.beta", 15),
    ("recipe.lr", 17),
]


@pytest.mark.parametrize(("key", "line"), LINES)
def test_the_line_of_a_key_is_found(key, line):
    assert line_of(STUDY.replace("image.flip = 0.5\n", "\n"), key) == line


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a.b = 1\n\n[c]\nd = 2\n", "a.b", 1),
        ("a.b = 1\n\n[c]\nd = 2\n", "c.d", 4),
        ("x = {y = 1, z = 2}\nw = 3", "x.z", 1),
        ('s = """\nk = 1\n"""\nk = 2', "k", 4),
        ("# k = 1\n\nk = [1,\n2]\n", "k", 3),
    ],
)
def test_the_line_is_found_in_other_forms(text, key, line):
    assert line_of(text, key) == line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = 5", "seeds = 0", "line 4: seeds: met 0, expected a whole number of at least 1"),
        ("seeds = 5", 'baseline = "ms"', "line 4: no key 'baseline': the protocol says which"),
        ("seeds = 5", "seads = 5", "line 4: no key 'seads'. Did you mean seeds"),
        ("trials = 4", "trails = 4", "line 12: no key 'search.trails'. Did you mean search.trials"),
        ("beta = 30", "betta = 30", "line 14: no hyperparameter of ms 'betta'. Did you mean"),
        ("beta = 30", "beta = 1e9", "line 14: beta=1000000000.0: expected [0.01, 200]"),
        ("[method.ms]", "[method.mss]", "line 14: no method 'mss'. Did you mean 'ms'"),
        ("lr = 0.002", "lr = 0.002.1", "line 16"),
        ("0.75,", "0.125,", "line 7: image.area: met [0.25, 0.125], expected two numbers"),
        ('["ms", "triplet"]', "3", "line 3: methods: met 3, expected a list of names"),
        ('protocol = "toy"', "protocol = 3", "line 2: protocol: met 3, expected a text"),
        ("[recipe]", "[recipes]", "line 16: no key 'recipes.lr'"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_key(study, old, new, words, capsys):
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    assert main(["plan", str(study)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{study}" in said
    assert words in said


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"\xff\xfe", "UTF-8"), (b"a" * (2 << 20), "larger than 1 MiB")],
)
def test_a_file_that_is_none_is_one_line(tmp_path, content, words, capsys):
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    assert main(["run", str(path)]) == BAD_INPUT
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "image.crop=3"], "--set: no key 'image.crop'. Did you mean image.crop_px"),
        (["--set", "baseline=ms"], "--set: no key 'baseline': the protocol says which method"),
        (["--set", "seeds"], "expected KEY=VALUE"),
        (["--set", "search.sampler=cma"], "expected one of tpe, gp, random"),
        (["--protocol", "photos"], "--datasets folder:photos"),
    ],
)
def test_what_is_typed_wrong_is_one_line(words, said, capsys):
    assert main(["plan", *words]) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_new_study_writes_once(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    assert main(["new-study", str(path), "--protocol", "photos"]) == DONE
    assert f"python -m benchmark plan {path}" in capsys.readouterr().out
    assert main(["new-study", str(path)]) == BAD_INPUT
    assert "stays as it is" in capsys.readouterr().err
    assert main(["new-study", str(tmp_path / "mine.txt")]) == BAD_INPUT


def test_a_changed_study_runs_keeps_its_rules_and_is_not_submitted(tmp_path, capsys):
    out = tmp_path / "out"
    small = ["search.trials=1", "seeds=1", "image.resize_px=24", "image.crop_px=[24,16]"]
    small += ["pace.max_steps=4", "pace.validate_every=2", "method.ms.beta=30", "recipe.lr=0.01"]
    words = ["--protocol", "toy", "--methods", "ms", "--out", str(out)]
    words += [part for change in small for part in ("--set", change)]
    assert main(["run", *words]) == DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "24 x 16 px" in said
    assert "method.ms.beta 30.0" in said
    study = load_study(out)
    assert study is not None
    (ms,) = [cell for cell in study.cells if cell.method == "ms"]
    (trial,) = study.trials(ms)
    assert trial.settings["beta"] == 30.0
    assert study.cell_record(ms).identity["recipe"]["lr"] == 0.01
    assert main(["run", "--protocol", "toy", "--methods", "ms", "--out", str(out)]) == BAD_INPUT
    assert "under other rules" in capsys.readouterr().err
    assert main(["submit", str(out), "--results", str(tmp_path / "results")]) == BAD_INPUT
    assert "ran a changed 'toy'" in capsys.readouterr().err


def test_a_plugin_without_methods_runs_what_it_holds_beside_the_baseline(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from protocols.methods.triplet import Triplet\n\nclass Mine(Triplet): ...\n")
    words = ["run", "--protocol", "toy", "--plugin", str(path), "--out", str(tmp_path / "out")]
    assert {key.method for key in set_up(parsed(*words)).keys} == {"mine", "triplet", "untrained"}


@pytest.mark.parametrize(
    ("dataset", "needed"),
    [("cub200", True), ("inshop", True), ("folder:birds@3fa9c1d2", True), ("emoji", False)],
)
def test_a_continuing_command_has_a_place_for_the_root_where_data_was_prepared(
    dataset, needed, tmp_path
):
    command = continuing_command(None, tmp_path, {"datasets": (dataset,), "methods": ("ms",)})
    assert (" --root DIR " in command) == needed
    assert "--weights FILE" in command
