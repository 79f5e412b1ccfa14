"""The command that makes the website of results/."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.exit_codes import DONE
from benchmark.site.content import read_results
from benchmark.site.pages import Site
from benchmark.site.snapshots import freeze, snapshots
from benchmark.study.records import write_bytes
from protocols.errors import InvalidInputError

LISTED = "site-files.txt"  # what the last build wrote, so that the next one can take it away


def site(args: argparse.Namespace) -> int:
    """Write the site; take away what an earlier build wrote and this one does not.

    Raises:
        InvalidInputError: no results, or a folder that holds something else.
    """
    results, folder = args.results, args.to
    if not results.is_dir():
        raise InvalidInputError(f"no folder {str(results)!r}; expected one like results")
    before = _listed(folder)
    content = read_results(results)
    if args.snapshot:
        print(freeze(results, args.snapshot, content.csv))
    files = Site(content, snapshots(results)).files()
    for address, body in files.items():
        path = folder / address
        if not path.is_file() or path.read_bytes() != body:
            write_bytes(path, body)
    for address in sorted(before - files.keys()):
        (folder / address).unlink(missing_ok=True)
    write_bytes(folder / LISTED, "".join(f"{name}\n" for name in sorted(files)).encode())
    print(f"{len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB")
    print(folder / "index.html")
    return DONE


def _listed(folder: Path) -> set[str]:
    """Return what an earlier build wrote.

    Raises:
        InvalidInputError: the folder holds something else.
    """
    listed = folder / LISTED
    if not listed.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InvalidInputError(
                f"{folder} holds something else than a site; choose another --to"
            )
        return set()
    names = listed.read_text(encoding="utf-8").splitlines()
    inside = folder.resolve()
    return {name for name in names if (folder / name).resolve().is_relative_to(inside)}
