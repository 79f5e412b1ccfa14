"""The page that names the maker of every class of products, as the models' licences ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocols.datasets.products.catalogue import LIBRARIES, Entry

HEAD = """# Who made the models, and under which licence

The images in `products.zip` and `classes.png` were drawn from 3D models of four catalogues of
Debian's package `sweethome3d-furniture` 1.8 (http://www.sweethome3d.com/importModels.jsp), whose
files were cleaned and converted by Emmanuel Puybaret / eTeks. The images are adaptations of the
models and stay under the licences below; the project's own licence covers only the code. Those
licences allow adaptations and copies of them, for any purpose, if their makers are named, the
licence is named and linked, and changes are told.

**What was changed.** The models themselves are not here. Each was drawn at 64 x 64 px in ten views,
without its glass, under light and on grounds of random colours, by the program and the rules in
`build.py`. Some models were left out: see `catalogue.py` and `build.py`. No maker endorses this
use. As those licences say, models and images come as they are, without warranties of any kind.

| catalogue | licence | who is to be named | classes |
|---|---|---|---|
"""
EACH = "each model's maker, below"


def page(entries: Iterable[Entry]) -> str:
    """Return the page, with every class of ``entries`` under its catalogue and maker."""
    kept = list(entries)
    rows = []
    for name, library in LIBRARIES.items():
        count = sum(entry.library == name for entry in kept)
        link = f"[{library.licence}]({library.address})"
        rows.append(f"| `{name}` | {link} | {library.credit or EACH} | {count} |\n")
    parts = [HEAD, *rows]
    for name, library in LIBRARIES.items():
        parts.append(f"\n## {name}: {library.licence}\n\n")
        parts += [f"{library.notice}.\n\n"] if library.notice else []
        parts += _makers([entry for entry in kept if entry.library == name])
    return "".join(parts)


def _makers(entries: list[Entry]) -> Iterator[str]:
    """Yield a line a maker: the classes, and what the maker called the work where that is known."""
    makers: dict[str, list[Entry]] = {}
    for entry in entries:
        makers.setdefault(entry.creator, []).append(entry)
    for maker in sorted(makers, key=str.lower):
        works = [
            f"`{entry.name.split('/')[1]}`" + (f" from {entry.work}" if entry.work else "")
            for entry in sorted(makers[maker], key=lambda entry: entry.name.lower())
        ]
        yield f"- {maker}: {'; '.join(works)}\n"
