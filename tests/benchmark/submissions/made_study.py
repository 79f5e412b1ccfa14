"""Rows of ``box`` on some datasets, drawn and not trained: a results folder without git."""

from pathlib import Path

from benchmark.submissions import leaderboard, schema
from benchmark.submissions.findings.studies import Study, studies
from benchmark.submissions.kept import unchecked
from protocols.discovery import load
from tests import measure_verify as made

CLASSES = 40
PROTOCOL = load("protocol", "box")
COMMIT = "a" * 40


def lay_out(results: Path, rows, protocol=PROTOCOL) -> Path:
    """Write a row for each (dataset, method), and what they make; return the folder."""
    shared = made.shared_fields(protocol, COMMIT, CLASSES)
    results.mkdir(parents=True, exist_ok=True)
    block = f"# Results\n\n{leaderboard.BEGIN}\n\n{leaderboard.END}\n"
    (results / "README.md").write_text(block)
    for dataset, method in rows:
        folder = results / schema.place_of(protocol.name, dataset, method)
        folder.mkdir(parents=True)
        files = made.files_of(protocol, method, "adam", shared, dataset, CLASSES)
        for name, content in files:
            (folder / name).write_bytes(content)
    leaderboard.write(results)
    return results


def study_of(results: Path) -> Study:
    """Return the one study that the rows of a folder make."""
    rows = unchecked(results)
    made = leaderboard.tables(results, rows)
    (found,) = studies(made, rows, leaderboard.shipped_protocols())
    return found
