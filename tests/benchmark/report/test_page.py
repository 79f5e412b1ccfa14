import base64
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.report import charts, cliques, curves, gallery, queries, searches
from benchmark.report import page as page_module
from benchmark.report.page import TEMPLATES, figures, write
from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.looks import look
from benchmark.study.places import cell_id
from benchmark.study.records import CellRecord, ChoiceRecord, JobRecord, RunRecord, TrialRecord
from benchmark.tables.frames import make_tables
from protocols.metrics import METRICS
from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule
from protocols.space import Real, described
from tests.proven import put

DIGEST = "d1" * 32
PROTOCOL = Protocol(
    name="made",
    version=3,
    summary="for tests",
    label="made numbers: they show nothing",
    datasets=("shapes",),
    trunk="tiny",
    recipe="adam",
    reference="raw",
    baseline="base",
    folds=2,
    image=ImagePipeline(resize_px=16, crop_px=16),
    pace=Pace(max_steps=20, steps_per_epoch=5, validate_every=10, patience=1),
    search=SearchRule(trials=2),
    seeds=3,
)
SPACE = {"margin": Real(0.0, 1.0, default=0.1)}
MAP = {"raw": 0.35, "base": 0.4, "better": 0.5}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """Collects tags with attributes, and text; every opened tag must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def scores(value: float) -> dict[str, float]:
    return {"precision_at_1": value + 0.2, "r_precision": value + 0.1, "map_at_r": value}


def key_of(method: str, place: tuple[str, str, str], trains: bool) -> CellKey:
    return CellKey(cell_id(made_of(method, place)), *place, method, method, trains, trains)


def made_of(method: str, place: tuple[str, ...]) -> dict[str, object]:
    recipe = {"name": place[2], "lr": 0.001}
    return {
        "dataset_digest": DIGEST,
        "method_code": "c0de",
        "recipe": recipe,
        "of": [method, place],
    }


def add_cell(study: Study, key: CellKey) -> None:
    place = (key.dataset, key.trunk, key.recipe)
    identity = made_of(key.method, place)
    cell = CellRecord(key.id, "made", 3, *place, key.method, key.row, identity)
    put(study, key, cell)
    settings = {"margin": 0.25} if key.searched else {}
    choice = ChoiceRecord("c", key.id, "best", None, settings, None)
    if key.searched:
        choice = replace(choice, trial=1, value=0.45, space=described(SPACE))
    put(study, key, choice)
    for number in range(2) if key.searched else ():
        value = 0.4 + 0.05 * number
        trial = TrialRecord("t", key.id, number, {"margin": 0.1}, "done", value, [value, value])
        trial = replace(trial, measured={"seconds": 30.0})
        put(study, key, trial)


def add_run(study: Study, key: CellKey, seed: int, value: float, **changes: object) -> RunRecord:
    folds = study.protocol.folds
    separated = scores(value - 0.03)
    run = RunRecord(
        id="r",
        cell=key.id,
        seed=seed,
        settings={},
        status="done",
        folds=[separated] * folds,
        separated=separated,
        concatenated=scores(value),
        validation=scores(value + 0.05),
        best_steps=[20] * folds,
        excluded=1,
        openings=["test images opened"] * folds,
        counts={"parameters_trained": 1000, "parameters_deployed": 900, "images_trained": 640},
        measured={
            "train_s": 12.5,
            "seconds": 15.0,
            "peak_memory_mb": 512,
            "environment": {"device": "cpu", "torch": "2.11"},
        },
    )
    run = replace(run, **changes)  # type: ignore[arg-type]
    put(study, key, run)
    for fold in range(folds):
        history = [{"step": s, **scores(value * (0.5 + s / 40))} for s in (0, 10, 20)]
        job = JobRecord("j", key.id, "final", seed, fold, {}, "done", steps=20, best_step=20)
        job = replace(job, history=history)
        put(study, key, job)
    return run


def make_study(
    out: Path,
    methods: dict[str, float] = MAP,
    seeds: int = 3,
    places: tuple[tuple[str, str, str], ...] = (("shapes", "tiny", "adam"),),
    **changes: object,
) -> Study:
    protocol = replace(PROTOCOL, seeds=seeds, **changes)  # type: ignore[arg-type]
    keys = [key_of(m, place, m != protocol.reference) for place in places for m in methods]
    study = Study(out, protocol).extend(keys, protocol)
    study.save()
    rng = np.random.default_rng(0)
    for key in study.cells:
        add_cell(study, key)
        for seed in range(seeds):
            value = methods[key.method] + 0.01 * rng.standard_normal()
            add_run(study, key, seed, float(value))
    return study


def html_of(study: Study) -> str:
    return write(make_tables(study)).read_text(encoding="utf-8")


def row_of(html: str, method: str, table: int = 0) -> str:
    """Return the HTML of a method's row in the headline (0) or differences (1) table."""
    body = html.split('<table class="strips"')[table + 1].split("</table>")[0]
    return next(r for r in body.split("<tr ") if re.search(rf'scope="row">{method}\W', r))


PIXELS = {0: (200, 0, 0), 1: (0, 160, 0), 2: (0, 0, 220)}


def add_pictures(study: Study, labels: list[int]) -> None:
    """Store one plain image per label, at 16 px."""
    pixels = np.array([np.full((16, 16, 3), PIXELS[label % 3]) for label in labels], np.uint8)
    stem = study.out / "cache" / f"shapes-{DIGEST[:12]}-16px"
    stem.parent.mkdir(parents=True)
    stem.with_suffix(".u8").write_bytes(pixels.tobytes())
    np.save(stem.with_suffix(".sizes.npy"), np.full((len(labels), 2), 16))


def queries_file(study: Study, name: str, found: list[list[int]], values: list[float]) -> dict:
    """Write per-query results over test images 2.. of classes 0 0 0 1 1 1."""
    arrays = {
        "index": np.arange(2, 2 + len(values)),
        "labels": np.array([0, 0, 0, 1, 1, 1][: len(values)]),
        "neighbours": np.array(found),
        "query": np.arange(len(found)),
        "concatenated_map_at_r": np.array(values, np.float32),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    records.write_bytes(study.out / "queries" / name, buffer.getvalue())
    return {"path": f"queries/{name}", "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}


NEAR = [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [3, 0, 4, 1, 5], [4, 5, 0, 1, 2], [3, 0, 1, 5, 2]]
NEAR = [*NEAR, [0, 1, 2, 3, 4]]


def study_with_pictures(out: Path) -> Study:
    study = make_study(out)
    add_pictures(study, [9, 9, 0, 0, 0, 1, 1, 1])
    values = {"base": [1, 1, 0.25, 1, 0.5, 0], "better": [1, 1, 1, 0, 0.5, float("nan")]}
    for key in study.cells:
        if key.method in values:
            what = queries_file(study, f"{key.method}.npz", NEAR, values[key.method])
            add_run(study, key, 0, MAP[key.method], queries=what)
    return study


# What it says


def test_is_whole_html_with_every_method_and_number(tmp_path):
    study = make_study(tmp_path)
    frames = make_tables(study)
    page = Page(write(frames).read_text(encoding="utf-8"))
    assert not page.open, "every tag is closed"
    assert len(frames.summary) == len(MAP) * 2 * len(METRICS)
    for row in frames.summary.itertuples():
        assert row.method in page.text
        assert f"{100 * row.mean:.2f} ± {50 * (row.ci_high - row.ci_low):.2f}" in page.text
    assert "made numbers: they show nothing" in page.text
    assert study.protocol.hash() in page.text
    assert study.protocol.rules_hash() in page.text


def test_best_first_with_baseline_and_reference_marked(tmp_path):
    html = html_of(make_study(tmp_path))
    headline = html.split('<table class="strips"')[1].split("</table>")[0]
    names = re.findall(r'scope="row">(\w+)', headline)
    assert names == ["better", "base", "raw"]
    assert '<span class="tag">baseline</span>' in row_of(html, "base")
    assert '<span class="tag">reference</span>' in row_of(html, "raw")
    assert "tag" not in row_of(html, "better")
    assert "better has the highest mean MAP@R" in html


def test_interval_only_from_three_runs_on(tmp_path):
    for seeds in (1, 2, 3):
        html = html_of(make_study(tmp_path / str(seeds), seeds=seeds))
        drawn = [row_of(html, m).count('class="ci"') for m in MAP]
        assert drawn == [seeds >= 3] * len(MAP)
        assert (" ± " in row_of(html, "better")) == (seeds >= 3)
        assert row_of(html, "better").count('class="dot"') == seeds
        assert ("Interval (bar, ±): none (n &lt; 3); n = " in html) == (seeds < 3)


def test_unfinished_and_failed_cells_show_a_dash_and_why(tmp_path):
    study = make_study(tmp_path, {**MAP, "late": 0.3, "broken": 0.3, "new": 0.3})
    keys = {key.method: key for key in study.cells}
    study.folder(keys["late"]).joinpath("seed-2.json").unlink()
    for seed in range(3):
        failed = {"status": "failed", "reason": "oom", "detail": "fold 1: out of memory"}
        empty = dict.fromkeys(("concatenated", "separated", "validation"))
        add_run(study, keys["broken"], seed, 0.3, **failed, **empty)
    for path in study.folder(keys["new"]).glob("*.json"):
        path.unlink()
    html = html_of(study)
    for method, why in {
        "late": "– 2 of 3 runs ended",
        "broken": "– all 3 runs failed: oom",
        "new": "– not started",
    }.items():
        row = row_of(html, method)
        assert why in row
        assert len(re.findall(r"<td[^>]*>–<", row)) == 3
        assert 'class="mean"' not in row
    assert "0/3, 3 failed" in row_of(html, "broken")
    assert row_of(html, "late").count('class="dot"') == 2
    text = Page(html).text
    assert "3 failed runs or trials" in text
    assert "fold 1: out of memory" in text


def test_a_partly_failed_method_keeps_its_mean_and_says_so(tmp_path):
    study = make_study(tmp_path, seeds=4)
    key = next(key for key in study.cells if key.method == "better")
    nothing = dict.fromkeys(("concatenated", "separated", "validation"))
    add_run(study, key, 3, 0.5, status="failed", reason="non_finite", **nothing)
    row = row_of(html_of(study), "better")
    assert "3/4, 1 failed" in row
    assert " ± " in row


def test_differences_read_method_minus_baseline(tmp_path):
    study = make_study(tmp_path, seeds=7)
    frames = make_tables(study)
    html = html_of(study)
    pairs = frames.pairs.query("embedding == 'concatenated' and metric == 'map_at_r'")
    pair = pairs.query("method_a == 'better' and method_b == 'base'").iloc[0]
    row = row_of(html, "better", table=1)
    assert f"{100 * pair.mean_difference:+.2f}" in row
    assert f"[{100 * pair.ci_low:+.2f}, {100 * pair.ci_high:+.2f}]" in row
    assert f">{pair.p_holm:.4f}<" in row
    assert f"▲ {pair.verdict}" in row
    assert 'class="band"' in row
    assert "Against base: 1 better" in html, "the reference is shown, not counted"
    assert "outside the family" in row_of(html, "raw", table=1)


def test_too_few_seeds_are_not_tested_and_say_how_many_it_takes(tmp_path):
    html = html_of(make_study(tmp_path, seeds=2))
    assert "? not tested (needs 3 seeds)" in row_of(html, "better", table=1)
    assert "No comparison could be tested: not tested (needs 3 seeds)." in Page(html).text


def test_how_often_verdicts_were_looked_at_is_shown(tmp_path):
    study = make_study(tmp_path, seeds=3)
    assert "looked at" not in html_of(study)
    look(study, 3)
    look(study, 5)
    said = "Verdicts looked at 2 times (3, 5 seeds; no number of seeds planned)"
    assert said in Page(html_of(study)).text


def test_failed_runs_stand_apart_with_what_they_would_have_to_score(tmp_path):
    study = make_study(tmp_path, seeds=4)
    key = next(key for key in study.cells if key.method == "better")
    nothing = dict.fromkeys(("concatenated", "separated", "validation"))
    add_run(study, key, 3, 0.5, status="failed", reason="non_finite", **nothing)
    html = html_of(study)
    assert html.index('scope="row">base') < html.index('scope="row">better')
    assert "better: 1 of 4 runs failed, not ranked" in Page(html).text


def test_what_the_machine_lost_stands_beside_the_row_and_among_the_failures(tmp_path):
    study = make_study(tmp_path, seeds=3)
    key = next(key for key in study.cells if key.method == "better")
    assert "lost to the machine" not in html_of(study)
    count = len(study.trials(key))
    trial = TrialRecord("", key.id, count, {"lr": 0.5}, "failed", 0.0, [None], "oom")
    put(study, key, trial)
    html = html_of(study)
    assert f"1 of {count + 1} trials lost to the machine" in row_of(html, "better")
    assert "oom, lost to the machine" in Page(html).text
    assert "run --retry-failed" in Page(html).text
    put(study, key, replace(trial, reason="non_finite", detail="fold 1: loss is nan (mine.py:7)"))
    html = html_of(study)
    assert "lost to the machine" not in html
    assert "fold 1: loss is nan (mine.py:7); lr 0.5" in Page(html).text


def test_without_the_baseline_no_comparison_is_claimed(tmp_path):
    study = make_study(tmp_path)
    key = next(key for key in study.cells if key.method == "base")
    study.folder(key).joinpath("seed-0.json").unlink()
    text = Page(html_of(study)).text
    assert "The baseline base has not finished" in text
    assert "Against" not in text


def test_a_far_reference_does_not_press_the_others_together():
    near = [charts.Mark("a", 40.0), charts.Mark("b", 44.0)]
    axis = charts.focused(near, [charts.Mark("raw", 8.0)])
    assert axis.low > 30
    assert not axis.holds(8.0)
    assert charts.focused(near, [charts.Mark("raw", 38.0)]).holds(38.0)


def test_every_number_of_the_protocol_and_what_was_changed(tmp_path):
    study = make_study(tmp_path, overrides={"trials": 2})
    html = html_of(study)
    text = Page(html).text
    for name in (
        "image.resize_px 16",
        "pace.max_steps 20",
        "search.sampler tpe",
        "timeout_s 86400",
    ):
        assert name in text
    changed = re.findall(r'class="changed"><dt>([^<]+)</dt><dd>([^<]+)', html)
    assert changed == [("search.trials", "2 ")]
    assert "Changed from protocol made: search.trials = 2" in text


def test_environments_that_differ_are_marked(tmp_path):
    study = make_study(tmp_path)
    assert 'class="changed"' not in html_of(study)
    key = study.cells[0]
    add_run(study, key, 0, 0.4, measured={"environment": {"device": "cpu", "torch": "2.12"}})
    assert '<div class="changed"><dt>torch</dt><dd>2.11; 2.12</dd>' in html_of(study)


def test_chosen_settings_costs_and_curves(tmp_path):
    html = html_of(make_study(tmp_path))
    text = Page(html).text
    assert "margin 0.25" in text
    assert "trial 1 of 2" in text
    assert "untouched trunk, nothing is trained" in text
    assert "12 of 12 final trainings were best at their last validation" in text
    assert html.count('class="thick"') == 3 * 2, "learning and both views of the search"
    assert html.count('class="thin"') == 2 * 3 * 2, "a line for each method, seed and fold"
    assert html.count('class="dashed"') == 3 * 1, "the baseline's, beside the other method's"
    assert html.count('class="ring"') == 3 * 2, "both views of the search, and one slice"
    assert "12.5" in text
    assert "1,000" in text
    assert text.count("in all here") == 1
    assert "18 in all here" in text


def test_an_empty_study_is_a_page_too(tmp_path):
    study = Study(tmp_path, PROTOCOL)
    study.save()
    text = Page(html_of(study)).text
    assert "No cell has been planned yet" in text
    assert "Nothing failed" in text


def test_curves_show_the_metric_that_decides_and_say_which(tmp_path):
    page = Page(html_of(make_study(tmp_path, selection_metric="precision_at_1")))
    assert "Validation P@1 in per cent against the optimiser step" in page.text
    assert "Validation MAP@R in per cent" not in page.text
    labels = [str(about.get("aria-label")) for _, about in page.tags]
    (base,) = (text for text in labels if text.startswith("base: validation P@1 of 6 trainings"))
    # P@1 of the made histories is MAP@R and 20 points: 0.5 * 40 + 20 at step 0, 40 + 20 at the end.
    first, last = (float(x) for x in re.findall(r"\d+\.\d", base))
    assert first == pytest.approx(40, abs=1)
    assert last == pytest.approx(60, abs=2)


def test_several_places_have_their_own_sections(tmp_path):
    places = (("a", "tiny", "adam"), ("b", "tiny", "adam"), ("b", "tiny", "sgd"))
    html = html_of(make_study(tmp_path, places=places))
    contents = html.split('aria-label="Contents"')[1].split("</nav>")[0]
    assert re.findall(r'href="#(s\d)"', contents) == ["s1", "s2", "s3"]
    assert re.findall(r'<section id="(s\d)"', html) == ["s1", "s2", "s3"]
    assert html.count("has the highest mean MAP@R") == 3


# What it must not do


def test_loads_nothing_and_runs_nothing(tmp_path):
    html = html_of(study_with_pictures(tmp_path))
    page = Page(html)
    assert "http:" not in html.replace('http-equiv="', "")
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:image/png").startswith("data:image/png")
        assert (attributes.get("href") or "#").startswith("#")
    policies = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


EVIL = '<script>alert("x")</script>'


def test_names_are_text_and_stay_in_their_folder(tmp_path, monkeypatch):
    bad = "<img src=x onerror=alert(1)>"
    out = tmp_path / "study"
    study = make_study(out, {**MAP, bad: 0.45}, label=EVIL)
    add_pictures(study, [9, 9, 0, 0, 0, 1, 1, 1])
    monkeypatch.setattr(gallery, "class_names", lambda *_: [EVIL, "../../etc"])
    keys = {key.method: key for key in study.cells}
    what = queries_file(study, "q.npz", NEAR, [1, 1, 0.25, 1, 0.5, 0])
    evil = {"queries": what, "settings": {EVIL: EVIL}}
    add_run(study, keys[bad], 0, 0.45, **evil, measured={"environment": {EVIL: EVIL}})
    failed = {"status": "failed", "reason": "crash", "detail": EVIL, "concatenated": None}
    add_run(study, keys["base"], 0, 0.45, **failed)
    html = html_of(study)
    page = Page(html)
    assert not {"script"} & {tag for tag, _ in page.tags}
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert EVIL in page.text
    assert bad in page.text
    assert EVIL in {a.get("title") for _, a in page.tags}, "a class name"
    files = figures(make_tables(study))
    assert {path.parent for path in files} == {out / "report" / "figures"}
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@pytest.mark.parametrize("path", ["../secret.npz", "/etc/hostname", "study.json", "", "queries"])
def test_queries_outside_their_folder_are_not_read(tmp_path, path):
    study = make_study(tmp_path / "out")
    (tmp_path / "secret.npz").write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    run = add_run(study, study.cells[0], 0, 0.4, queries={"path": path, "sha256": digest})
    assert "not in the output folder" in str(queries.queries_of(study.out, run))


def test_the_same_records_give_the_same_bytes(tmp_path):
    first, second = study_with_pictures(tmp_path / "one"), study_with_pictures(tmp_path / "two")
    content = write(make_tables(first)).read_bytes()
    assert content == write(make_tables(first)).read_bytes()
    assert content == write(make_tables(second)).read_bytes()
    assert str(tmp_path).encode() not in content


def test_writing_needs_neither_torch_nor_matplotlib(tmp_path):
    study = make_study(tmp_path)
    code = (
        "import sys; from pathlib import Path; from benchmark.report.page import write;"
        "from benchmark.study.folder import load_study;"
        "from benchmark.tables.frames import make_tables;"
        f"s = load_study(Path({str(study.out)!r})); write(make_tables(s));"
        "sys.exit(', '.join({'torch', 'optuna', 'mlflow', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")


# Pictures


def test_neighbours_are_marked_right_and_wrong(tmp_path):
    html = html_of(study_with_pictures(tmp_path))
    worst = html.split("<h4>Worst</h4>")[1].split("<h4>Best</h4>")[0]
    card = worst.split("<li>")[1]
    # The worst query of "better" is the first of class 1: position 3, neighbours 4 5 0 1 2.
    kinds = re.findall(r'class="thumb (\w+)"', card)
    assert kinds == ["query", "right", "right", "wrong", "wrong", "wrong"]
    assert re.findall(r"<i[^>]*>([^<]+)</i>", card) == ["query", "✓", "✓", "✗", "✗", "✗"]
    assert re.findall(r'alt="(\w+): (class \d)"', card)[2:4] == [
        ("right", "class 1"),
        ("wrong", "class 0"),
    ]
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', card)
    colours = [Image.open(io.BytesIO(base64.b64decode(s))).convert("RGB") for s in sources]
    shown = [image.getpixel((5, 5)) for image in colours]
    assert shown == [PIXELS[1]] * 3 + [PIXELS[0]] * 3


def test_disagreements_and_classes(tmp_path):
    html = html_of(study_with_pictures(tmp_path))
    text = Page(html).text
    gain = html.split("Queries that better gains on")[1].split("</ul>")[0]
    loss = html.split("Queries that better loses on")[1].split("</ul>")[0]
    assert re.findall(r"(\w+) · MAP@R ([\d.]+) %", gain) == [("base", "25.0"), ("better", "100.0")]
    assert re.findall(r"(\w+) · MAP@R ([\d.]+) %", loss) == [("base", "100.0"), ("better", "0.0")]
    # Class 0 gains (0.75 + 0 + 0) / 3; class 1 loses (1 + 0) / 2, its last query excluded.
    # without a verdict's mark: these are the extremes of many, and no test is behind them
    assert "class 0 3 75.00 100.00 +25.00" in text
    assert "class 1 2 75.00 25.00 −50.00" in text


def test_missing_pictures_and_results_are_one_line(tmp_path):
    assert "No pictures: the decoded images of shapes are not in the output folder." in html_of(
        make_study(tmp_path / "bare")
    )
    study = study_with_pictures(tmp_path / "out")
    with (study.out / "queries" / "better.npz").open("ab") as file:
        file.write(b"x")
    text = Page(html_of(study)).text
    assert "the per-query results of seed 0 are not those of its record" in text
    assert "the per-query results of seed 0 are not in the output folder" in text, "of raw"
    store = next((study.out / "cache").glob("*.u8"))
    store.write_bytes(b"short")
    assert "the decoded images of shapes cannot be read" in html_of(study)


def test_class_names_are_those_of_the_same_data(tmp_path):
    from protocols.datasets import toy

    assert list(gallery.class_names(tmp_path, "toy", toy.digest()))[:2] == [
        "stripes 0",
        "stripes 1",
    ]
    assert list(gallery.class_names(tmp_path, "toy", "another")) == []
    assert list(gallery.class_names(tmp_path, "../toy", toy.digest())) == []
    assert gallery.class_name(["a"], 1) == "class 1"


def test_the_file_stays_small(tmp_path, monkeypatch):
    study = study_with_pictures(tmp_path)
    monkeypatch.setattr(gallery, "BUDGET", 1)
    assert "Left out to keep this file small: better, base, raw" in Page(html_of(study)).text


def test_equal_values_are_spread_over_the_classes():
    values = np.array([0.0, 0.0, 0.0, 0.0, np.nan, 0.5, -1.0])
    labels = np.array([7, 7, 7, 8, 9, 9, 7])
    assert queries.extremes(values, labels, 4) == [6, 0, 3, 1]
    assert queries.extremes(np.array([np.nan]), np.array([1]), 3) == []


def test_a_thumbnail_is_a_small_square():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    content = base64.b64decode(gallery.thumbnail(wide).removeprefix("data:image/png;base64,"))
    image = Image.open(io.BytesIO(content))
    assert image.size == (48, 48)
    assert image.convert("L").getextrema() == (255, 255)


# Charts


@pytest.mark.parametrize(
    "values", [[40, 40 + 1e-12], [-1e6, -1e6 + 1e-5], [0.3, 0.1 + 0.2], [0.0, 1e-15], [1e300] * 2]
)
@pytest.mark.parametrize("zero", [False, True])
def test_values_that_only_rounding_tells_apart_have_the_axis_of_one_value(values, zero):
    axis, one = charts.spanning(values, zero=zero), charts.spanning(values[:1], zero=zero)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert axis.ticks == one.ticks


@pytest.mark.parametrize(
    "values", [[], [3.0], [0.0, 0.0], [41.2, 44.9], [-0.3, 12.0], [1e-7, 2e-7]]
)
def test_axes_reach_all_values_with_round_ticks(values):
    axis = charts.spanning(values)
    assert all(0 < axis.at(v) < 100 for v in values)
    assert 2 <= len(axis.ticks) <= 8
    labels = [axis.label(tick) for tick in axis.ticks]
    assert len(set(labels)) == len(labels)
    assert [float(label.replace("−", "-")) for label in labels] == pytest.approx(axis.ticks)


def test_amounts_start_at_zero():
    axis = charts.spanning([300.0, 450.0], zero=True)
    assert axis.low == 0
    assert axis.ticks[0] == 0
    assert axis.label(0.0, signed=True) == "0"


def test_the_mean_ends_where_the_first_training_stops():
    long, short = [(0, 1.0), (10, 3.0), (20, 5.0)], [(0, 2.0), (10, 4.0)]
    assert curves.mean_curve([long, short]) == [(0, 1.5), (10, 3.5)]
    assert curves.mean_curve([]) == []
    assert searches.best_so_far([(0, 2.0), (1, 1.0), (2, 3.0)]) == [(0, 2.0), (1, 2.0), (2, 3.0)]
    many = [(float(x), 0.0) for x in range(1000)]
    assert len(charts.thinned(many)) == charts.MAX_POINTS
    assert (charts.thinned(many)[0], charts.thinned(many)[-1]) == (many[0], many[-1])


def test_labels_do_not_overlap():
    points = tuple(charts.Point(f"method {k}", 1.0 + 0.01 * k, 0.5) for k in range(12))
    axis = charts.spanning([0.0, 2.0])
    placed = charts.place_labels(charts.Scatter(axis, axis, points, "s", "%")).points
    labelled = [p for p in placed if p.anchor]
    assert 2 <= len(labelled) < 12, "what does not fit has no label"
    assert len({(p.dx, p.dy) for p in labelled}) == len(labelled)


def test_image_files_are_png_and_svg_and_the_same_each_time(tmp_path):
    study = make_study(tmp_path)
    files = figures(make_tables(study))
    assert {path.parent for path in files} == {tmp_path / "report" / "figures"}
    names = ["map_at_r", "differences", "learning", "search-by-trial", "search-by-seconds"]
    names += ["slices-01", "slices-02", "validation-and-test", "cost-1"]
    assert [p.name for p in files] == [f"01-{n}.{kind}" for n in names for kind in ("png", "svg")]
    content = [path.read_bytes() for path in files]
    assert content[0].startswith(b"\x89PNG")
    assert b"<svg" in content[1]
    figures(make_tables(study))
    assert content == [path.read_bytes() for path in files]


# Thresholds


def test_what_one_threshold_does_stands_in_a_table_of_its_own(tmp_path):
    study = make_study(tmp_path)
    before = html_of(study)
    assert "-thresholds" not in before, "records of earlier versions have none"
    for key in study.cells:
        for run in study.runs(key):
            if run.concatenated:
                more = {**run.concatenated, "tar_at_far_1e-2": 0.4123, "opis": 0.0567}
                put(study, key, replace(run, concatenated=more))
    html = html_of(study)
    table = html[html.index("One threshold for all pairs of test images") :]
    assert table.index("OPIS") > table.index("TAR@1e-2") > 0
    assert "41.23" in table
    assert "5.67" in table
    assert "TAR@1e-3" not in table[: table.index("</table>")], "too few pairs for it"
    assert 'id="note-thresholds"' in html


# For everyone


def test_every_drawing_says_what_it_shows(tmp_path):
    page = Page(html_of(study_with_pictures(tmp_path)))
    assert {tag for tag, _ in page.tags} >= {"svg", "img"}
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") or attributes.get("aria-label")
        if tag == "img":
            assert attributes["alt"]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for t, a in page.tags if t == "a"}
    assert links <= {f"#{i}" for i in ids}, "every link leads somewhere"
    assert {f"#{i}" for i in ids} - links == {"#note-oracle"}, "nothing was watched here"


def test_text_has_contrast_in_light_and_dark():
    style = (TEMPLATES / "style.jinja").read_text()
    blocks = re.findall(r":root\s*\{([^}]+)\}", style)
    assert len(blocks) == style.count(":root") == 3, "for light, dark and paper"
    for block in blocks:
        colour = dict(pair.split(":") for pair in block.replace("--", "").split(";"))
        for name in ("ink", "soft", "blue", "orange", "right", "wrong"):
            for ground in ("bg", "tint", "warn"):
                if name in ("right", "wrong") and ground != "bg":
                    continue
                ratio = contrast(colour[name], colour[ground])
                assert ratio >= 4.5, f"{name} on {ground}: {ratio:.2f}"


def contrast(first: str, second: str) -> float:
    """Return the WCAG 2 contrast ratio of two colours."""

    def luminance(text: str) -> float:
        digits = text.strip().lstrip("#")
        digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
        parts = np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def ranked_study(out: Path, datasets: int) -> Study:
    methods = {"triplet": 0.30, "ms": 0.40, "group": 0.3002, "untrained": 0.1}
    places = tuple((f"set{k}", "tiny", "adam") for k in range(datasets))
    return make_study(out, methods, places=places)


def test_critical_differences_are_drawn_where_they_can_be_found(tmp_path: Path) -> None:
    study = ranked_study(tmp_path / "many", 12)
    (chart,) = cliques.diagrams(make_tables(study))
    assert [mark.name for mark in chart.marks] == ["ms", "triplet", "group"]  # no reference
    assert chart.datasets == 12
    ranks = {mark.name: mark.mean for mark in chart.marks}
    assert chart.bars == [tuple(sorted((ranks["triplet"], ranks["group"])))]
    html = html_of(study)
    assert html.count('tr role="row" class="clique"') == 1
    assert 'aria-label="ms: mean rank 1.00"' in html


def test_there_is_no_diagram_of_few_datasets(tmp_path: Path) -> None:
    study = ranked_study(tmp_path / "few", 5)
    assert list(cliques.diagrams(make_tables(study))) == []
    html = html_of(study)
    assert 'class="clique"' not in html
    assert "critical differences of 3 methods need 7 datasets, here are 5" in html


def test_whatever_reaches_beyond_a_chart_ends_at_its_edge_with_an_arrow():
    """An interval of a reference may be far wider than the axis, which is for the others."""
    environment = page_module._environment()
    drawn = environment.get_template("charts.jinja").module
    axis = charts.Axis(-1.0, 1.0, (-1.0, 0.0, 1.0))
    mark = charts.Mark("untrained", 0.2, -5.7, 4.6, (-3.0, 0.1, 2.0))
    html = str(drawn.strip(mark, axis, "words", 9, 0.5))
    tags = Page(html).tags
    places = [
        float(str(value).removesuffix("%"))
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("x", "x1", "x2", "cx")
    ]
    assert min(places) == 0
    assert max(places) == 100
    assert sum(attributes.get("class") == "dot" for _, attributes in tags) == 1
    assert "◂" in html
    assert "▸" in html
    inside = str(drawn.strip(charts.Mark("ms", 0.2, -0.5, 0.6, (0.1,)), axis, "words", 9, 0.5))
    assert "◂" not in inside
    assert "▸" not in inside
