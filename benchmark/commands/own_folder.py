"""Where a study goes that names no folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.study.folder import load_study

FOLDER = Path("runs")


def settle_folder(args: argparse.Namespace) -> str:
    """Give ``args`` an output folder where no ``--out`` was typed; return a line to print, or none.

    It is ``runs``, or ``runs-PROTOCOL`` where ``runs`` holds a study of another protocol: a folder
    holds the studies of one.

    Raises:
        StoreError: the study in ``runs`` is damaged.
    """
    if args.out is not None:
        return ""
    args.out, known = FOLDER, load_study(FOLDER)
    if known is None or known.protocol.name == args.protocol:
        return ""
    args.out = Path(f"{FOLDER}-{args.protocol}")
    return f"{FOLDER} holds a study under {known.protocol.name}, so this one goes to {args.out}"
