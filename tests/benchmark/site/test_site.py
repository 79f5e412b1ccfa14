"""The website of results/: every link leads somewhere, every number is the leaderboard's."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import metadata
from pathlib import PurePosixPath
from posixpath import normpath
from types import SimpleNamespace

import numpy as np
import pytest
from markupsafe import Markup
from scipy import stats

from benchmark.cli import main
from benchmark.site.about import about
from benchmark.site.content import Content, read_results
from benchmark.site.pages import Site
from benchmark.site.pictures import album
from benchmark.site.snapshots import snapshots
from benchmark.site.studies import StudyPage
from benchmark.submissions import leaderboard, schema, voided
from benchmark.submissions.findings.parts import parts
from benchmark.submissions.findings.places import places
from protocols.discovery import Registry
from protocols.errors import InvalidInputError
from tests.benchmark import rows
from tests.benchmark.submissions.made_study import lay_out
from tests.benchmark.submissions.test_standing import entry
from tests.running import ROOT

ROW = "toy/toy/ms"


class Page(HTMLParser):
    """Links, ids and text of a page; tags that are not closed are an error."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "line", "rect", "path"})

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.open, self.words = [], set(), [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.links += [held[k] for k in ("href", "src") if k in held]
        self.ids |= {held["id"]} if "id" in held else set()
        if tag == "img":
            assert held.get("alt")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag not in self.VOID:
            self.handle_starttag(tag, attrs)
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def made(results):
    return Site(read_results(results), snapshots(results)).files()


@pytest.fixture(scope="module")
def files(submitted):
    return made(submitted / "results")


def pages(files):
    return {name: Page(body.decode()) for name, body in files.items() if name.endswith(".html")}


def test_every_link_leads_to_a_file_of_the_site(files):
    found = pages(files)
    assert {"index.html", f"rows/{ROW}.html", "methods/ms.html", "datasets/toy.html"} <= set(found)
    seen = 0
    for name, page in found.items():
        for link in page.links:
            if link.startswith(("https://arxiv.org/", "data:,")):
                continue
            target, _, part = link.partition("#")
            place = normpath(str(PurePosixPath(name).parent / target)) if target else name
            assert place in files, f"{name} links to {link}"
            assert not part or part in found[place].ids, f"{name} links to {link}"
            seen += 1
    assert seen > 200
    linked = {normpath(str(PurePosixPath(n).parent / x)) for n, p in found.items() for x in p.links}
    assert set(files) - linked <= {"index.html"}  # nothing that no page leads to


def test_a_study_has_a_page_with_its_findings(tmp_path):
    grid = [(d, m) for d in ("emoji", "kanji") for m in ("triplet", "ms", "whitened")]
    results = lay_out(tmp_path / "results", [*grid, ("kanji", "contrastive")])
    content = read_results(results)
    (study,) = content.studies
    site = made(results)
    page = pages(site)["studies/box-tiny.adam.html"]
    assert "What box found" in pages(site)["index.html"].text
    assert "studies/box-tiny.adam.html" in pages(site)["index.html"].links
    told = (results / "box" / "findings.md").read_text()
    for part in parts(study, places(study)):
        assert part.heading in page.text
        assert part.slug in page.ids
        for cell in (cell for row in part.rows for cell in row):
            assert cell in page.text
            assert cell.replace("|", r"\|") in told
    assert "whitened reference" in page.text
    assert "triplet baseline" in page.text
    assert "Not covered: " in page.text
    assert page.text[page.text.index("Not covered: ") :].partition(". ")[0] in told
    for link in page.links:
        target = normpath(str(PurePosixPath("studies") / link.partition("#")[0]))
        assert link.startswith(("#", "data:,")) or target in site, link
    for dataset, method in grid:
        assert f"../rows/box/{dataset}/{method}.html" in page.links


def test_bars_join_what_no_test_tells_apart():
    page = StudyPage(SimpleNamespace())
    ranks = {"a": (1.0, "1"), "b": (2.0, "1 2"), "c": (3.5, "2"), "d": (3.6, "")}
    page.__dict__["places"] = [
        SimpleNamespace(rank=rank, across={"cliques": cliques}) for rank, cliques in ranks.values()
    ]
    assert page.bars == [(1.0, 2.0), (2.0, 3.5)]


def test_nothing_comes_from_elsewhere(files):
    for name, body in files.items():
        if name.endswith((".html", ".css", ".js")):
            text = re.sub(r"https://arxiv\.org/abs/[\d.]+", "", body.decode())
            assert "http" not in text, name
            assert "style=" not in text, name


def test_the_first_page_shows_the_leaderboard(files, submitted):
    text = pages(files)["index.html"].text
    board = (submitted / "results" / leaderboard.FILE).read_text().splitlines()
    shown = 0
    for row in csv.DictReader(board):
        if (row["embedding"], row["metric"]) == ("concatenated", "map_at_r"):
            assert f"{row['method']} " in text
            assert f"{100 * float(row['mean']):.2f}" in text
            shown += 1
    assert shown == 3
    assert files["leaderboard.csv"].decode().splitlines() == board


def test_a_row_says_what_it_took(results):
    """By hand: hours, Wh, and money at the price that the claim names."""
    row = results / ROW

    took = {"package_j": 5400.0, "machine_s": 27.5}
    rows.edit(row / "cell.json", lambda body: body["took"].update(took))
    claim = (row / "claim.toml").read_text()
    (row / "claim.toml").write_text(f'{claim}price_per_hour = "36 EUR"\n')
    text = pages(made(results))[f"rows/{ROW}.html"].text
    assert "1.5000 Wh" in text
    assert "0.0076 h" in text
    assert "0.2750 EUR" in text
    assert "at 36 EUR an hour" in text
    assert "GPUs counted" not in text.partition("What it took")[2].partition("Search and all")[0]


def test_a_comparison_is_that_of_the_runs(files, submitted):
    name = next(n for n in files if n.startswith("compare/") and "ms" in n and "triplet" in n)
    first, _, second = name.rpartition("/")[2].removesuffix(".html").partition("--")
    values = {
        method: [
            json.loads((submitted / "results/toy/toy" / method / f"seed-{n}.json").read_text())
            for n in range(2)
        ]
        for method in (first, second)
    }
    points = [
        100 * (a["concatenated"]["map_at_r"] - b["concatenated"]["map_at_r"])
        for a, b in zip(values[first], values[second], strict=True)
    ]
    text = pages(files)[name].text
    assert "The band is ±0.5 points" in text  # what the verdicts call equivalent
    for point in (*points, sum(points) / 2):
        assert f"{point:+.2f}".replace("-", "\N{MINUS SIGN}") in text


def test_intervals_of_a_pair_are_t_intervals(submitted, tmp_path):
    """Three seeds by hand, since two have no interval."""
    from benchmark.report.charts import spanning
    from benchmark.site import pairs
    from benchmark.site.content import Row

    content = read_results(submitted / "results")
    one, two = content.boards[0].rows[:2]

    class Fixed(Row):
        def values(self, part):
            yield from enumerate(self.fixed)

    def fixed(row, values):
        found = Fixed(row.submitted, row.cell, row.parts, spanning([0, 1]))
        object.__setattr__(found, "fixed", values)
        return found

    a, b = fixed(one, [0.5, 0.6, 0.55, math.nan]), fixed(two, [0.4, 0.55, 0.5, 0.1])
    pair = pairs._pair(a, b, None, None)
    expected = stats.ttest_rel([50, 60, 55], [40, 55, 50]).confidence_interval(0.95)
    assert pair.mark.low == pytest.approx(expected.low, abs=1e-9)
    assert pair.mark.high == pytest.approx(expected.high, abs=1e-9)
    assert [seed for seed, _, _ in pair.by_seed] == [0, 1, 2]  # a failed seed has no pair


def test_queries_that_speak_for_a_method_are_those_with_the_largest_gaps(files, submitted):
    from benchmark.site import pairs

    content = read_results(submitted / "results")
    pair = next(p for p in pairs.pairs(content.boards[0]) if p.for_a)
    gaps = [query.a - query.b for query in pair.for_a]
    assert gaps == sorted(gaps, reverse=True)
    assert min(gaps) > 0
    of_a = pair.a.submitted.values
    mean = np.mean([of_a[n].found["map_at_r"][0].astype(float) for n in of_a], axis=0)
    of_b = pair.b.submitted.values
    other = np.mean([of_b[n].found["map_at_r"][0].astype(float) for n in of_b], axis=0)
    assert gaps[0] == pytest.approx(np.nanmax(mean - other))
    assert len({query.label for query in pair.for_a}) == len(pair.for_a)
    pictures = album("toy", Registry())
    places = pictures.of_test(pair.labels)
    assert (pictures.dataset.labels[places] == pair.labels).all()
    assert pictures.of_test(pair.labels[1:]) is None  # not the dataset's own test images


def test_a_dataset_that_does_not_ship_has_no_pictures():
    assert album("cub200", Registry()).dataset is None
    assert album("no-such-dataset", Registry()).sample() == []


def test_a_method_is_described_from_its_source():
    found = about("method", "ms", Registry())
    assert found.paper == "Wang et al., CVPR 2019, arXiv:1904.06627"
    assert found.link == "https://arxiv.org/abs/1904.06627"
    assert found.file == "protocols/methods/ms.py"
    assert "Not in this checkout" in about("method", "nobodys", Registry()).summary


def test_words_of_strangers_are_text(results):
    claim = results / ROW / "claim.toml"
    nasty = "<script>alert(1)</script> & evil"
    claim.write_text(claim.read_text().replace("a test", nasty))
    body = made(results)[f"rows/{ROW}.html"].decode()
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)" in body


def test_signs_that_nobody_sees_are_shown(results):
    """Whatever a page is given; a claim with such signs is refused before it gets here."""
    found = Site(read_results(results), snapshots(results))
    shown = found.templates.from_string("{{ text }}|{{ mark }}")
    page = shown.render(text="Jane \u202eeoD <b>", mark=Markup("<b>"))
    assert page == "Jane \\u202eeoD &lt;b&gt;|<b>"


def test_no_page_takes_another_ones_address(results):
    """Of a folder that was not checked: a method named like the list of all methods."""
    board, *others = read_results(results).boards
    row = replace(board.rows[0], cell=board.rows[0].cell.model_copy(update={"method": "index"}))
    content = Content((replace(board, rows=(row, *board.rows[1:])), *others), (), b"")
    with pytest.raises(InvalidInputError, match=r"two pages .* methods/index\.html"):
        Site(content, ()).files()


@pytest.mark.parametrize(("method", "dataset"), [("index", "emoji"), ("ms", "index")])
def test_no_row_is_named_like_a_list_of_the_site(method, dataset):
    with pytest.raises(InvalidInputError, match="is not 'index'"):
        schema.place_of("quick", dataset, schema.folder_name(method, "t", "r", ("t", "r")))


def test_a_rows_page_says_its_verdicts_as_the_leaderboard_does(results):
    content = read_results(results)
    row = next(row for row in content.rows if not row.is_baseline)
    part = ("separated", "map_at_r")
    row.parts[part].update(verdict="not tested", needs_seeds=7, mark="unequal spread")
    words = row.verdict_of(part)
    assert words == "not tested (needs 7 seeds) (unequal spread)"
    assert words in Page(Site(content, ()).files()[row.address].decode()).text


def test_a_note_on_machines_keeps_its_capitals(results):
    content = read_results(results)
    content.boards[0].rows[0].head["machines"] = "NVIDIA H100 80GB HBM3: ms; cpu: triplet"
    text = Page(Site(content, ()).files()["index.html"].decode()).text
    assert "NVIDIA H100 80GB HBM3: ms; cpu: triplet." in text


def test_void_rows_stand_apart_with_the_reason(results, tmp_path, monkeypatch):
    path = tmp_path / "voided.toml"
    path.write_text(entry(results))
    monkeypatch.setattr(voided.read_voids, "__defaults__", (path,))
    content = read_results(results)
    assert [board.status for board in content.boards] == ["", "void"]
    text = pages(made(results))["index.html"].text
    assert "ms is void since 2026-12-01: its loss had a wrong sign" in text


def test_it_is_written_once_and_old_files_go(results, tmp_path, capsys):
    folder = tmp_path / "site"
    assert main(["site", str(results), "--to", str(folder)]) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(["site", str(results), "--to", str(folder)]) == 0
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    shutil.rmtree(results / ROW)
    (folder / "mine.txt").write_text("not the site's")
    assert main(["site", str(results), "--to", str(folder)]) == 0
    assert not (folder / f"rows/{ROW}.html").exists()
    assert not (folder / "methods/ms.html").exists()
    assert (folder / "mine.txt").exists()


def test_a_folder_of_something_else_is_left_alone(results, tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("x")
    assert main(["site", str(results), "--to", str(tmp_path)]) == 2
    assert "something else than a site" in capsys.readouterr().err
    (tmp_path / "site-files.txt").write_text("../escaped.txt\n/etc/passwd\nkept.txt\n")
    escaped = tmp_path.parent / "escaped.txt"
    escaped.write_text("x")
    assert main(["site", str(results), "--to", str(tmp_path)]) == 0
    assert escaped.exists()
    assert not (tmp_path / "kept.txt").exists()


def test_a_snapshot_is_frozen(results, tmp_path, capsys):
    words = ["site", str(results), "--to", str(tmp_path / "site"), "--snapshot"]
    assert main([*words, "2026-12"]) == 0
    kept = results / "snapshots" / "2026-12.csv"
    assert kept.read_bytes() == (results / leaderboard.FILE).read_bytes()
    page = Page((tmp_path / "site/snapshots/2026-12/index.html").read_text())
    assert "The leaderboard of 2026-12" in page.text
    assert "ms" in page.text
    assert main([*words, "2026-12"]) == 2
    assert "never changed" in capsys.readouterr().err
    assert main([*words, "2026-13"]) == 2
    rows.git(results.parent, "add", "-A")
    rows.git(results.parent, "commit", "--quiet", "-m", "snapshot")
    assert rows.verify(results, capsys) == (0, [])
    kept.write_bytes(kept.read_bytes().replace(b"ms", b"sm"))
    code, said = rows.verify(results, capsys)
    assert code == 2
    assert any("was changed since it was submitted" in line for line in said)
    assert any("of any commit: a snapshot is a copy" in line for line in said)
    kept.write_text("a,b\n1,2\n")
    assert main(words[:-1]) == 2
    assert "2026-12.csv: is no leaderboard: it lacks" in capsys.readouterr().err


def test_it_needs_only_what_its_workflow_installs(results, tmp_path):
    workflow = (ROOT / ".github/workflows/site.yml").read_text()
    (installed,) = re.findall(r"pip install (.+)", workflow)
    modules = {"pillow": "PIL", "faiss-cpu": "faiss"}
    modules["pytorch-metric-learning"] = "pytorch_metric_learning"
    needed = metadata.requires("dml-reality-bench")
    names = {re.split(r"[ <>=!;\[]", line)[0] for line in needed if "extra ==" not in line}
    blocked = [modules.get(name, name) for name in sorted(names - set(installed.split()))]
    assert {"torch", "mlflow", "optuna"} <= set(blocked)
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "from benchmark.cli import main\n"
        f"sys.exit(main(['site', {str(results)!r}, '--to', {str(tmp_path / 'site')!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# A table of four rows as a browser gives it to a script, and what follows from clicks on its heads.
_TABLE = """
const made = [];
const element = (text, data = {}) => ({
  textContent: text, dataset: data, attributes: {}, held: [], classList: { contains: () => false },
  getAttribute(name) { return this.attributes[name] ?? null; },
  setAttribute(name, word) { this.attributes[name] = word; },
  removeAttribute(name) { delete this.attributes[name]; },
  append(...those) { this.held.push(...those); },
  addEventListener(_, heard) { this.click = heard; },
});
const heads = [element("method"), element("MAP@R"), element("rank", { first: "ascending" })];
const rows = [["b", "0.2", "2"], ["a", "0.1", "10"], ["c", "", "\u2013"], ["d", "0.3", "1"]].map(
  (words) => ({ name: words[0], cells: words.map((word) => element(word, { value: word })) }));
const body = { rows, append(...those) { this.rows = those; } };
const table = { tHead: { rows: [{ cells: heads }] }, tBodies: [body] };
globalThis.document = {
  createElement: () => element(""), querySelector: () => null, querySelectorAll: () => [table],
};
require(process.argv[1]);
for (const head of heads) {
  const [button] = head.held;
  for (const _ of [1, 2]) {
    button.click();
    made.push([button.attributes["aria-label"], head.attributes["aria-sort"],
      body.rows.map((row) => row.name).join("")]);
  }
}
console.log(JSON.stringify(made));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_a_click_puts_the_best_first_and_what_is_missing_last(files, tmp_path):
    script = tmp_path / "site.js"
    script.write_bytes(files["site.js"])
    words = ["node", "-e", _TABLE, str(script)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [
        ["sort by method", "ascending", "abcd"],
        ["sort by method", "descending", "dcba"],
        ["sort by MAP@R", "descending", "dbac"],
        ["sort by MAP@R", "ascending", "abdc"],
        ["sort by rank", "ascending", "dbac"],
        ["sort by rank", "descending", "abdc"],
    ]


def test_no_head_is_moved_into_a_button(files):
    """A link in a button is no HTML, and two stops of the tab key."""
    script = files["site.js"].decode()
    assert "childNodes" not in script
    assert "button.append" not in script


def test_what_is_missing_is_no_number_to_sort_by(results):
    content = read_results(results)
    row = content.rows[0]
    row.head.update(mean=None, difference=None)
    page = Site(content, ()).files()["index.html"].decode()
    (line,) = [part for part in page.split("<tr data-row") if f'data-name="{row.name} ' in part]
    assert line.count('data-value=""') >= 2
    assert 'data-value="-1"' not in line


def test_a_tables_verdict_stands_beside_its_score(files):
    """Where a screen is narrow the first columns are seen, and the chart fills it."""
    heads = files["index.html"].decode().partition("<thead>")[2].partition("</thead>")[0]
    order = [heads.index(f">{word}<") for word in ("method", "MAP@R, %", "verdict")]
    assert order == sorted(order)
    assert order[-1] < heads.index('class="chart"')
    cells = files["index.html"].decode().partition("<tbody>")[2].partition("</tr>")[0]
    assert cells.index("verdict") < cells.index('class="chart"')


def test_every_head_of_a_table_has_a_name(files):
    assert "<th" in files["index.html"].decode()
    for name, body in files.items():
        if name.endswith(".html"):
            for head in re.findall(r"<th\b.*?</th>", body.decode(), re.DOTALL):
                words = re.sub(r"<svg.*?</svg>|<[^>]*>", "", head, flags=re.DOTALL)
                assert words.strip(), f"{name}: {head}"


def test_links_of_a_matrix_say_what_they_compare(files):
    name = next(n for n in files if n.startswith("compare/") and n.endswith("index.html"))
    text = files[name].decode()
    links = re.findall(r'aria-label="(\w+) minus (\w+): ([^"]+)">([^<]+)</a>', text)
    assert {(a, b) for a, b, _, _ in links} >= {("ms", "triplet"), ("triplet", "ms")}
    assert all(said == shown for _, _, said, shown in links)
    assert 'class="scroll tall"' in text
    assert ".tall thead th{position:sticky;top:0" in files["site.css"].decode()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_a_browser_filters_and_finds_no_error(results, tmp_path):
    assert main(["site", str(results), "--to", str(tmp_path / "site")]) == 0
    page = (tmp_path / "site/index.html").as_uri()
    words = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    words += ["--enable-logging=stderr", "--virtual-time-budget=2000", f"{page}#name=triplet"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    hidden = re.findall(r'<tr data-row="" data-name="(\w+)[^>]*hidden', done.stdout)
    assert sorted(hidden) == ["ms", "untrained"]
    assert "1 row<" in done.stdout
