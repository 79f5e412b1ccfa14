"""The site's files: pages from templates, the leaderboard as CSV, pictures, snapshots."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from benchmark import report
from benchmark.report.charts import MAX_DOTS, minus, number
from benchmark.site.about import LICENCES, About, about
from benchmark.site.content import Board, Content, metric_name
from benchmark.site.pairs import Pair, pairs
from benchmark.site.pictures import Album, album
from benchmark.site.snapshots import FOLDER, Snapshot
from benchmark.site.studies import StudyPage
from benchmark.statistics import paired
from benchmark.study.scores import HEADLINE, MARKS, NOTHING, PARTS, per_cent
from benchmark.submissions.standing import STATES
from protocols.discovery import Registry
from protocols.errors import InvalidInputError
from protocols.names import seen

TEMPLATES = Path(__file__).parent / "templates"
CHARTS = Path(report.__file__).parent / "templates"  # drawn as in the report of a study
STATIC = ("site.css", "site.js")
_CODE = re.compile(r"``?(?::\w+:`)?([^`]+)``?")


@dataclass
class Site:
    """Everything that is written, by address below the site's folder."""

    content: Content
    snapshots: Sequence[Snapshot]
    registry: Registry = field(default_factory=Registry)
    albums: dict[str, Album] = field(default_factory=dict)
    templates: Environment = field(default_factory=lambda: _environment())

    def files(self) -> dict[str, bytes]:
        """Return every file of the site; equal results make equal bytes.

        Raises:
            InvalidInputError: two pages would have one address.
        """
        found: dict[str, bytes] = {}
        for address, template, values in self._pages():
            if address in found:
                raise InvalidInputError(
                    f"two pages of the site would be {address}: the names of two methods, datasets "
                    "or rows lead there. python -m benchmark verify says which name is none"
                )
            found[address] = self._render(address, template, values)
        for name in STATIC:
            found[name] = (TEMPLATES / name).read_bytes()
        found["leaderboard.csv"] = self.content.csv
        for snapshot in self.snapshots:
            found[f"{FOLDER}/{snapshot.name}/leaderboard.csv"] = snapshot.content
        for name, pictures in sorted(self.albums.items()):
            found |= pictures.files
            licence = self._licence(name)
            if pictures.files and licence.is_file():
                found[f"datasets/{name}/{LICENCES}"] = licence.read_bytes()
        return found

    def _pages(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (address, template, its values) of every page."""
        content = self.content
        datasets = sorted({board.title for board in content.boards})
        methods = sorted({row.cell.method for row in content.rows})
        found = [StudyPage(study) for study in content.studies]
        yield "index.html", "index.html", {"boards": content.boards, "studies": found}
        for page in found:
            yield page.address, "study.html", {"page": page}
        yield "methods/index.html", "methods.html", {"methods": self._about("method", methods)}
        yield "datasets/index.html", "datasets.html", {"datasets": self._about("dataset", datasets)}
        yield "read.html", "read.html", {}
        yield f"{FOLDER}/index.html", "snapshots.html", {"snapshots": self.snapshots}
        for snapshot in self.snapshots:
            values = {"snapshot": snapshot, "tables": _of_snapshot(snapshot)}
            yield f"{FOLDER}/{snapshot.name}/index.html", "snapshot.html", values
        for method in methods:
            values = {"name": method, "rows": content.of_method(method)}
            words = about("method", method, self.registry)
            yield f"methods/{method}.html", "method.html", {**values, "about": words}
        for dataset in datasets:
            yield f"datasets/{dataset}.html", "dataset.html", self._dataset(dataset)
        for board in content.boards:
            yield from self._board_pages(board)

    def _board_pages(self, board: Board) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield the pages of a table's rows, and of every two of them."""
        for row in board.rows:
            found = about("method", row.cell.method, self.registry)
            yield row.address, "row.html", {"board": board, "row": row, "about": found}
        made = pairs(board)
        values: dict[str, Any] = {"board": board, "pairs": {(p.a.name, p.b.name): p for p in made}}
        yield f"compare/{board.slug}/index.html", "compare.html", values
        for pair in made:
            address = f"compare/{board.slug}/{pair.name}.html"
            yield address, "pair.html", {"board": board, "pair": pair, **self._queries(board, pair)}

    def _queries(self, board: Board, pair: Pair) -> dict[str, Any]:
        """Return the pictures of the queries on which one of two methods is ahead."""
        pictures = self._album(board.title)
        of_test = pictures.of_test(pair.labels)
        groups = []
        for row, queries in ((pair.a, pair.for_a), (pair.b, pair.for_b)):
            cards = [
                {
                    "image": None
                    if of_test is None
                    else pictures.picture(int(of_test[q.position])),
                    "class": pictures.class_name(q.label),
                    "a": per_cent(q.a),
                    "b": per_cent(q.b),
                }
                for q in queries
            ]
            groups.append((row.name, cards))
        return {"groups": [group for group in groups if group[1]]}

    def _dataset(self, name: str) -> dict[str, Any]:
        pictures = self._album(name)
        sizes = {}
        if pictures.dataset is not None:
            labels = pictures.dataset.labels
            sizes = {"images": len(labels), "classes": len(pictures.dataset.class_names)}
        return {
            "name": name,
            "about": about("dataset", name, self.registry),
            "boards": self.content.of_dataset(name),
            "sample": pictures.sample(),
            "sizes": sizes,
            "licences": LICENCES if self._licence(name).is_file() else "",
        }

    def _about(self, kind: str, names: Sequence[str]) -> list[tuple[str, About, int]]:
        """Return each name with what it is and how many rows it has."""
        content = self.content
        counts = {
            "method": lambda name: len(content.of_method(name)),
            "dataset": lambda name: sum(len(b.rows) for b in content.of_dataset(name)),
        }
        return [(name, about(kind, name, self.registry), counts[kind](name)) for name in names]

    def _album(self, name: str) -> Album:
        if name not in self.albums:
            self.albums[name] = album(name, self.registry)
        return self.albums[name]

    def _licence(self, name: str) -> Path:
        if not self.registry.ships("dataset", name):
            return Path(LICENCES)  # of nothing
        return self.registry.source("dataset", name).parent / LICENCES

    def _render(self, address: str, template: str, values: dict[str, Any]) -> bytes:
        """Return a page; ``root`` leads from it to the site's first page."""
        depth = len(PurePosixPath(address).parts) - 1
        shared = {"root": "../" * depth, "address": address, "headline": HEADLINE}
        return self.templates.get_template(template).render(**shared, **values).encode()


def _of_snapshot(snapshot: Snapshot) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the headline rows of a frozen leaderboard by table."""
    tables: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(snapshot.content.decode("utf-8"))):
        if (row["embedding"], row["metric"]) == HEADLINE:
            rules = f"{row['protocol']} v{row['protocol_version']} {row['protocol_hash']}"
            place = f"{row['dataset']} · {rules} · {row['trunk']} · {row['recipe']}"
            tables.setdefault(place, []).append(row)
    return list(tables.items())


def _range(low: float | None, high: float | None, sign: str = "") -> str:
    """Return an interval in per cent or points, a dash where there is none."""
    if low is None or high is None:
        return NOTHING
    return minus(f"{per_cent(low, sign=sign)} to {per_cent(high, sign=sign)}")


def _prose(text: str) -> Markup:
    """Return a docstring's text as HTML: escaped, with code between back quotes as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _environment() -> Environment:
    """Return the templates with the filters that they use."""
    made = Environment(
        loader=FileSystemLoader([TEMPLATES, CHARTS]),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {
        "PARTS": PARTS,
        "MARKS": MARKS,
        "MAX_DOTS": MAX_DOTS,
        "ROPE": 100 * paired.ROPE,  # points
        "STATES": STATES,
        "range_of": _range,
        "metric_name": metric_name,
    }
    made.filters |= {
        "num": number,
        "signed": partial(number, signed=True),
        "percent": per_cent,
        "prose": _prose,
        "setting": _setting,
    }
    return made
