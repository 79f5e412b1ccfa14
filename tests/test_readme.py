"""What the README and the guides in ``docs`` say is what happens."""

import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cli import main, make_parser
from protocols.discovery import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES]
RUN = ROOT / "results" / "quick" / "emoji"


def commands():
    """Return every ``python -m benchmark`` command that a page shows."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"python -m benchmark ([^`\n]*)", text)
    return sorted({line.split("  ")[0].strip() for line in found})


def nox_commands():
    found = re.findall(r"nox -s benchmark -- ([^`\n#]*)", README)
    return sorted({line.strip() for line in found})


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line):
    make_parser().parse_args(shlex.split(line))


@pytest.mark.parametrize("line", nox_commands())
def test_every_study_is_understood(line):
    make_parser().parse_args(["run", *shlex.split(line)])


def test_the_commands_on_a_finished_study_do_what_they_say(tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "runs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "benchmark", "run", "--protocol", "toy", "--methods", "ms"]
    subprocess.run([*words, "--out", out], env=environment, check=True, capture_output=True)
    for command in ("tables --format md", "tables --format latex", "tables", "report", "sync"):
        assert main([*command.split(), "--out", out]) == 0, command
    printed = capsys.readouterr().out
    for name in ("headline.md", "headline.tex", "summary.csv", "index.html"):
        assert name in printed
    assert re.search(r"\b0 records written", printed), "the study has written them itself"
    monkeypatch.chdir(tmp_path)
    use_the_winner(capsys)


def use_the_winner(capsys):
    """Run the guide's commands here, where a study is, on photographs of two classes."""
    images = load("dataset", "toy").load(None).images
    for folder, numbers in (("photos/a", (0, 1)), ("photos/b", (8, 9)), ("queries", (2,))):
        Path(folder).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(images.read(number)).save(f"{folder}/{number}.png")
    guide = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    python -m benchmark (.*)$", guide, flags=re.MULTILINE)
    onnx = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    for line in shown:
        words = shlex.split(line if onnx else line.replace(".onnx", ".pt2"))
        assert main(words) == 0, line
    printed = capsys.readouterr().out
    for words in ("embed as recorded", "rank, cosine, image", "answers/answers.html", "P@1"):
        assert words in printed
    assert "peer stands as a reference" in printed


def test_the_plugin_it_shows_is_complete_and_keeps_the_contract(tmp_path, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    assert main(["check", str(tmp_path / "mine.py")]) == 0
    assert "22 of 22 checks passed" in capsys.readouterr().out


def test_the_output_it_shows_is_that_of_the_committed_run():
    shown = (RUN / "output.txt").read_text(encoding="utf-8").strip("\n")
    for line in shown.splitlines():
        assert line.rstrip() in README, f"README lacks: {line}"


def test_what_it_says_of_the_study_is_what_the_rows_say():
    """``verify`` makes that file anew from the rows, so no figure here is written by hand."""
    found = (ROOT / "results" / "box" / "findings.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"^Of \d+ methods? with a whole row.*$", found, flags=re.MULTILINE)
    table = re.search(r"^```text\n.*?^```$", found, flags=re.MULTILINE | re.DOTALL)
    assert table is not None
    assert table[0] in README
    assert said in " ".join(README.split())


def targets(page):
    """Return what a page links to, in the repository: path and heading."""
    found = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [tuple(target.partition("#")[::2]) for target in found if not target.startswith("http")]


def headings(page):
    """Return what a page's headings are called in a link."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_and_pictures_exist(page):
    for path, heading in targets(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in headings(target), f"{path} has no heading #{heading}"


def test_the_readme_leads_to_its_picture_the_results_and_every_guide():
    led = {path for path, _ in targets(ROOT / "README.md")}
    guides = {f"docs/{guide.name}" for guide in GUIDES}
    assert len(guides) >= 6
    assert {"results/emoji-classes.png", "results/README.md", "CONTRIBUTING.md"} | guides <= led


def sessions_of_plain_nox():
    """Return what ``nox.options.sessions`` is set to, read without nox."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    (found,) = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "nox.options.sessions"
    ]
    return found


def test_ci_runs_the_test_command_and_all_else_that_plain_nox_runs():
    assert "nox -s tests" in README
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    calls = [words for words in map(shlex.split, lines) if words[0].endswith("/nox")]
    assert [words[1:] for words in calls] == [["-s", *sessions_of_plain_nox()]]
    assert "tests" in sessions_of_plain_nox()
    assert "set -euo pipefail" in lines, "a session that fails ends it"


def test_what_it_says_of_the_quick_rows_is_in_the_leaderboard():
    with (ROOT / "results" / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "quick"]
    main = [r for r in rows if (r["embedding"], r["metric"]) == ("concatenated", "map_at_r")]
    verdicts = [row["verdict"] for row in main if row["verdict"]]
    conclusive = sum(verdict in ("better", "worse", "equivalent") for verdict in verdicts)
    assert "at three seeds hardly a comparison is conclusive" in " ".join(README.split())
    assert 0 < conclusive <= 0.1 * len(verdicts)


def _trained_runs(protocol: str) -> list[Path]:
    """Return the runs of rows that train the trunk."""
    fixed = ("centred", "lda", "linear_probe", "pretrained", "untrained", "whitened")
    found = sorted((ROOT / "results" / protocol).glob("*/*/seed-*.json"))
    return [path for path in found if path.parent.name.partition("+")[0] not in fixed]


def test_what_it_says_of_the_pretrained_trunk_is_in_the_leaderboard():
    with (ROOT / "results" / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "box-finetune"]
    told = {
        (row["method"].partition("+")[0], row["dataset"]): row["verdict"]
        for row in rows
        if (row["embedding"], row["metric"]) == ("concatenated", "map_at_r") and row["verdict"]
    }
    datasets = ("emoji", "kanji", "products", "objects")
    assert {dataset for _, dataset in told} == set(datasets)
    words: dict[tuple[str, ...], set[str]] = {}
    for method in {method for method, _ in told}:
        words.setdefault(tuple(told[method, each] for each in datasets), set()).add(method)
    assert words == {
        ("better",) * 4: {"ms"},
        ("inconclusive", "worse", "worse", "worse"): {"group"},
        ("worse", "worse", "worse", "inconclusive"): {"cgd"},
        ("inconclusive", "worse", "better", "inconclusive"): {"proxy_anchor"},
        ("inconclusive",) * 4: {"proxy_an"},
    }
    said = (
        "`ms` alone of five methods beats `triplet` on all four; `group` and `cgd` lie below it on "
        "three and beat it on none, `proxy_anchor` beats it on one and lies below it on one, and "
        "of `proxy_an` nothing is shown. 10 of 240 runs kept a model of step 0"
    )
    assert said in " ".join(README.split())
    runs = [json.loads(path.read_text()) for path in _trained_runs("box-finetune")]
    assert len(runs) == 240
    assert sum(0 in run["best_steps"] for run in runs) == 10
