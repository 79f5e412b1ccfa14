"""What can only fail is said before anything starts, in one line with what to do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.cli import main
from benchmark.exit_codes import BAD_INPUT, DONE
from benchmark.running.preflight import check, check_memory, look_first
from benchmark.study.folder import CellKey
from benchmark.training import first_look as module
from benchmark.training import splits
from benchmark.training.first_look import FirstLook, first_look
from benchmark.training.job import Job
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.protocol import ImagePipeline

ROOT = Path(__file__).parents[3]
TOY = load("protocol", "toy")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    digest = load("dataset", "toy").digest()
    return splits.DataSource("toy", digest, None, tmp_path_factory.mktemp("c"))


def look(source, method="ms", protocol=TOY, trunk="tiny", **values):
    cell = CellKey("id", "toy", trunk, "adam", method, method, trains=method != "untrained")
    recipe = load("recipe", "adam")
    return first_look(Job(cell, protocol, recipe, "search", 0, 0, {}, source, "cpu", **values))


@pytest.mark.parametrize("method", ["ms", "group", "divide_conquer", "untrained"])
def test_a_cell_that_works_is_silent_and_says_its_memory(source, method):
    state = torch.random.get_rng_state()
    found = look(source, method)
    assert (found.problem, found.failed) == ("", "")
    assert found.memory_mb > 100
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("trunk", "method", "still"),
    [
        ("frozen:tiny", "ms", "28,768 of its 28,768"),
        ("lora8:tiny", "ms", "28,768 of its 36,920"),
        ("tiny", "linear_probe", "28,768 of its 28,768"),
        ("tiny", "ms", ""),
        ("frozen:tiny", "untrained", ""),
    ],
)
def test_what_starts_at_random_and_never_trains_is_said(source, trunk, method, still):
    found = look(source, method, trunk=trunk)
    assert (found.problem, found.failed) == ("", "")
    words = f"trunk {trunk} starts at random, and {still} parameters never train under {method}"
    assert found.note.startswith(words) if still else not found.note


@pytest.mark.parametrize(
    ("trunk", "words"),
    [
        ("frozen:lora8:tiny", "a Frozen trunk holds a trunk as it is"),
        ("prompt10:tiny", "prompts need a plain vision transformer of timm"),
    ],
)
def test_a_trunk_that_cannot_be_held_is_refused_before_anything_starts(source, trunk, words):
    assert words in look(source, trunk=trunk).problem


def test_a_batch_wider_than_a_fold_names_classes_and_need(source):
    wide = replace(TOY, batch_size=800)
    found = look(source, protocol=wide)
    classes = len(np.unique(splits.open_fold(source, wide, 0)[0].labels))
    assert f"{classes} classes: a batch of 800 with 4 images a class needs 200" in found.problem


def test_a_trunk_that_refuses_the_size_names_both(source):
    small = replace(TOY, image=ImagePipeline(16, (16, 8), area=(0.5, 1.0)))
    problem = look(source, protocol=small).problem
    assert "trunk 'tiny' does not take images of 16 x 8 px" in problem
    assert "image.crop_px" in problem


def test_weights_that_are_not_numbers_are_damaged(source, monkeypatch):
    whole = module.serving_trunk

    def damaged(job):
        trunk = whole(job)
        next(trunk.parameters()).data.fill_(float("nan"))
        return trunk

    monkeypatch.setattr(module, "serving_trunk", damaged)
    assert "its weights are damaged" in look(source).problem


def test_one_image_a_class_is_no_pair(source, monkeypatch):
    whole = splits.open_fold

    def first_of_each(*given):
        train, validation = whole(*given)
        first = np.unique(train.labels, return_index=True)[1]
        return splits.Split(train.store, train.index[first], train.labels[first]), validation

    monkeypatch.setattr(splits, "open_fold", first_of_each)
    assert "each of the" in look(source, "ms").problem
    assert "method 'ms' compares images of one class" in look(source, "ms").problem
    assert "compares" not in look(source, "arcface").problem


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("raise SystemExit(0)", "SystemExit"),
        ("raise MemoryError", ""),
    ],
)
def test_what_a_method_raises_is_its_own_failure_but_for_memory(source, tmp_path, body, words):
    path = tmp_path / "mine.py"
    path.write_text(
        "from protocols.methods.triplet import Triplet\n\n"
        "class Mine(Triplet):\n"
        f"    def losses(self, views, batch):\n        {body}\n"
    )
    found = look(source, "mine", plugins=(path,))
    assert words in found.failed
    assert ("does not fit into memory" in found.problem) == (not words)


@pytest.mark.parametrize(
    ("raised", "spent"),
    [
        ("RuntimeError('CUDA error: device-side assert triggered')", "broken"),
        ("torch.OutOfMemoryError('CUDA out of memory')", "crowded"),
        ("RuntimeError('no such luck')", ""),
    ],
)
@pytest.mark.parametrize("where", ["method", "trunk"])
def test_a_look_says_that_its_process_must_not_be_used_again(
    source, tmp_path, monkeypatch, raised, spent, where
):
    def fails(*images):
        raise eval(raised)

    body = f"raise {raised}" if where == "method" else "return embeddings.sum()"
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "from protocols.methods.triplet import Triplet\n\n"
        "class Mine(Triplet):\n"
        f"    def losses(self, views, batch):\n        {body}\n"
    )
    if where == "trunk":
        monkeypatch.setattr(module, "serving_trunk", lambda job: Raises(fails))
    found = look(source, "mine", plugins=(path,))
    assert found.spent == spent
    mine = where == "trunk" and not spent
    assert ("does not take images" in found.problem) == mine, "broken is no fault of the trunk"
    assert ("does not fit into memory" in found.problem) == (spent == "crowded")


class Raises(torch.nn.Module):
    """A trunk that raises what it is told to."""

    def __init__(self, fails):
        super().__init__()
        self.forward = fails


class Workers:
    """Notes what is looked at side by side; ``fate(row, beside)`` is what a look shows.

    ``capacities`` are what it has room for, each time that it is asked.
    """

    def __init__(self, fate, *capacities):
        self.fate, self.capacities, self.rounds = fate, iter(capacities), []

    @property
    def capacity(self):
        return next(self.capacities)

    def submit(self, function, row):
        if not self.rounds or self.rounds[-1][1]:
            self.rounds.append(([], []))
        self.rounds[-1][0].append(row)
        return Answer(self, self.rounds[-1], row)


class Answer:
    """A future whose answer is made once it is asked for, when all beside it are known."""

    def __init__(self, workers, started, row):
        self.workers, self.started, self.row = workers, started, row

    def exception(self, timeout=None):
        self.started[1].append(self.row)
        self.found = self.workers.fate(self.row, self.started[0])
        return self.found if isinstance(self.found, Exception) else None

    def result(self):
        return self.found


def looked(workers, *rows):
    plans = [
        SimpleNamespace(cell=cell(row), jobs_left=1, trials_done=0, runs_done=0) for row in rows
    ]
    said = []
    found = look_first(plans, lambda made: made.row, workers, said.append)
    return found, said, [rows for rows, _ in workers.rounds]


def test_every_cell_is_looked_at_once_while_the_workers_become_fewer():
    workers = Workers(lambda row, beside: FirstLook(note=row), 3, 2, 1, 1, 1, 1, 1)
    _, said, rounds = looked(workers, *"abcde")
    assert said == list("abcde")
    assert rounds == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize("how", ["broken", "crowded", "died"])
def test_what_broke_beside_another_is_looked_at_once_more_alone(how):
    """Under MPS one that breaks its card breaks all there, and memory is shared anyhow."""

    def fate(row, beside):
        if row != "b" and "b" not in beside:
            return FirstLook(memory_mb=7)
        if how == "died":
            return RuntimeError("a process ended")
        return FirstLook(failed=f"CUDA error in {row}", spent=how)

    found, said, rounds = looked(Workers(fate, 3, 3), *"abcd")
    assert rounds == [["a", "b", "c"], ["a"], ["b"], ["c"], ["d"]]
    assert [look.memory_mb for look in found] == [7, 0, 7, 7]
    (line,) = said
    assert line.startswith("b on toy (tiny, adam) fails in its first step: ")


def test_what_broke_with_nothing_beside_it_is_not_looked_at_again():
    broken = FirstLook(failed="CUDA error", spent="broken")
    _, said, rounds = looked(Workers(lambda row, beside: broken, 1, 1), "a", "b")
    assert rounds == [["a"], ["b"]]
    assert len(said) == 2


def cell(row):
    return CellKey("id", "toy", "tiny", "adam", row, row)


def test_cells_that_share_a_problem_stand_in_one_line():
    looks = [(cell(f"m{n}"), FirstLook(problem="no way. Go home")) for n in range(5)]
    with pytest.raises(InvalidInputError) as caught:
        check([(cell("fine"), FirstLook()), *looks, (cell("x"), FirstLook(problem="other"))])
    said = str(caught.value)
    assert said.startswith("m0 on toy (tiny, adam), m1 on toy (tiny, adam), m2 on toy")
    assert "and 2 more: no way. Go home. Nothing was started." in said
    assert "Other cells have other problems: 1" in said
    check([(cell("fine"), FirstLook(failed="its own"))])


def test_jobs_that_do_not_fit_beside_each_other_get_a_number_that_does(monkeypatch):
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1 << 20, "SC_PHYS_PAGES": 1000}.get)
    check_memory([FirstLook(memory_mb=500), FirstLook(memory_mb=100)], 2)
    with pytest.raises(InvalidInputError, match=r"3 jobs at once take 1,500 MB.*--jobs 2"):
        check_memory([FirstLook(memory_mb=500)], 3)
    with pytest.raises(InvalidInputError, match="smaller batch_size"):
        check_memory([FirstLook(memory_mb=1001)], 1)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_study_that_cannot_work_writes_no_record(command, tmp_path, capsys):
    words = ["--protocol", "toy", "--methods", "ms", "--set", "batch_size=800"]
    assert main([command, *words, "--out", str(tmp_path / "out")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("benchmark: ms on toy (tiny, adam): ")
    assert said.count("\n") == 1
    assert "Nothing was started" in said
    assert not (tmp_path / "out" / "records").exists()
    assert not (tmp_path / "out" / "study.json").exists()


def test_a_method_that_fails_at_once_is_said_and_keeps_no_other_from_its_plan(tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text(
        "from protocols.methods.triplet import Triplet\n\n"
        "class Broken(Triplet):\n"
        "    def losses(self, views, batch):\n        return 1 / 0\n"
    )
    words = ["--protocol", "toy", "--methods", "broken,ms", "--plugin", str(path)]
    assert main(["plan", *words, "--out", str(tmp_path / "out")]) == DONE
    said = capsys.readouterr().out
    assert (
        "broken on toy (tiny, adam) fails in its first step: ZeroDivisionError: division by zero"
        in said
    )
    assert "jobs left" in said


@pytest.mark.parametrize(
    "protocol", ["box-finetune", "finetune", "photos", "standard", "reality-check"]
)
def test_a_protocol_for_pretrained_trunks_asks_for_weights(protocol, tmp_path, capsys):
    words = ["plan", "--protocol", protocol, "--datasets", "toy", "--out", str(tmp_path / "out")]
    assert main(words) == BAD_INPUT
    assert "--weights none starts from random weights on purpose" in capsys.readouterr().err


PLUGIN = '''"""beside: triplet with an embedding of its own."""

import torch

from protocols.methods.triplet import Triplet


class Beside(Triplet):
    """Its forward ends otherwise."""

    def make_head(self, spec):
        return torch.nn.Linear(spec.channels, {width})

    def forward(self, features):
        z = super().forward(features)["embedding"]
        return {{"embedding": z if self.training else {embedded}}}
'''


@pytest.mark.parametrize(
    ("width", "embedded", "words"),
    [
        ("spec.embedding_size", "z", ""),
        ("spec.embedding_size", "2 * z + 1", ""),
        ("spec.embedding_size", "z - z.mean(0)", "otherwise where others are beside it"),
        ("spec.embedding_size", "z + z.roll(1, 0)", "otherwise where others are beside it"),
        ("spec.embedding_size", "z + z.flip(0) * (len(z) > 1)", "where others are beside it"),
        ("4 * spec.embedding_size", "z", "in 128 numbers, expected 32: a wider embedding"),
        ("spec.embedding_size", "z.repeat(1, 2)", "in 64 numbers, expected 32"),
    ],
)
def test_a_plugin_s_embedding_follows_from_its_own_image_in_the_protocol_s_width(
    source, tmp_path, width, embedded, words
):
    path = tmp_path / "beside.py"
    path.write_text(PLUGIN.format(width=width, embedded=embedded))
    found = look(source, "beside", plugins=(path,))
    assert not found.failed
    assert words in found.problem
    assert bool(words) == bool(found.problem)


PATCHES = {
    "a function": "metrics.per_query = lambda *a, **k: None",
    "a method": "Triplet.space = classmethod(lambda cls, *a: {})",
    "an axis": "Triplet.margin = Real(0.19, 0.21, default=0.2)",
    "a table": "Triplet.published = {'toy': {'margin': 0.2}}",
}


@pytest.mark.parametrize("what", PATCHES)
def test_a_plugin_that_moves_what_others_start_from_is_refused(what, tmp_path, capsys):
    path = tmp_path / "patching.py"
    imports = (
        "from protocols import metrics\n"
        "from protocols.methods.triplet import Triplet\n"
        "from protocols.space import Real\n"
    )
    body = '\n\nclass Patching(Triplet):\n    """A triplet."""\n'
    words = ["plan", "--protocol", "toy", "--plugin", str(path), "--methods", "patching,triplet"]
    for patch, code in ((PATCHES[what], BAD_INPUT), ("", DONE)):
        path.write_text(f'"""patching: a triplet."""\n{imports}\n{patch}\n{body}')
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words, "--out", str(tmp_path / "runs")],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
        )
        assert done.returncode == code, done.stdout + done.stderr
        if patch:
            assert "patching.py" in done.stderr
            assert "changes what every method starts from: protocols." in done.stderr
        else:
            assert "a study does not test patching.py" in " ".join(done.stdout.split())
