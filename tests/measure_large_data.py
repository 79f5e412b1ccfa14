"""Print the memory that data of Stanford Online Products' size needs; run it by hand.

    python -m tests.measure_large_data FOLDER

Makes an archive with the published 120,053 images of 22,634 classes, prepares it, and runs one
method on all four folds. What counts is resident memory beyond the page cache, of all processes
together (4 GB): decoded pixels lie in a mapped file, whose pages the system may drop.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.engines.machine import pick_device
from protocols import discovery
from tests.archives import sop
from tests.measure_main_job import ROOT, command, timed

HELD = ("Pss_Anon", "Pss_Shmem")
LIMIT_MB = 4096


def main() -> None:
    """Prepare, train, print."""
    folder = Path(sys.argv[1]).resolve()
    archive = folder / "archive" / "Stanford_Online_Products.zip"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        sop(archive.parent, discovery.load("dataset", "sop").OFFICIAL.published)
    root, plugin = folder / "data", str(ROOT / "tests" / "paper_shaped.py")
    steps = {
        "prepare": ["data", "prepare", "sop", "--root", str(root), "--archive", str(archive)],
        "run": [
            "run",
            "--plugin",
            plugin,
            "--protocol",
            "paper_shaped",
            "--datasets",
            "sop",
            "--trunks",
            "tiny",
            "--methods",
            "contrastive",
            "--trials",
            "1",
            "--root",
            str(root),
            "--out",
            str(folder / "runs"),
            "--device",
            pick_device("auto"),
        ],
    }
    for name, words in steps.items():
        seconds, held = timed(command(*words), folder, HELD)
        print(f"{name:8} {seconds:7.1f} s  {held:6.0f} MB of {LIMIT_MB} beyond the page cache")


if __name__ == "__main__":
    main()
