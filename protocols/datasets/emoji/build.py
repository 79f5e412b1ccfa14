"""Build emoji.zip from eight icon packages: ``python -m protocols.datasets.emoji.build --out DIR``.

Needs ``resvg_py`` 0.5.0 (``pip install resvg_py==0.5.0``) and, unless ``--packages`` names a
folder of unpacked ones, ``npm``. The rules, in the order in which they apply:

1. Names are compared as letters and digits: ``face-with-tears-of-joy`` is
   ``facewithtearsofjoy``. Icons in a skin tone and icons that their package hides are left out.
2. An alias joins two names, in every package, unless some package draws both of them.
3. ``WRONG`` lists icons whose name promises another emoji than the one drawn.
4. Two styles of a class that look alike (a mean difference below ``ALIKE`` of 255) count once:
   the first in the order of ``PACKAGES`` stays. A picture found in two classes leaves both.
5. A class has at least ``MIN_STYLES`` pictures after that.
6. Class ids follow the sha256 of ``SALT`` and the name, so that neighbours in the alphabet do
   not fall into one fold. Images are sorted by (label, style).

The same packages give the same pixels, and the same bytes under the same Pillow; the manifest's
``pixels_sha256`` tells whether a difference is in the pictures or in their compression.
"""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from protocols.datasets._building import Contents, by_hash, fetch, write
from protocols.errors import BenchmarkError, DataError

PACKAGES = {
    "twemoji": "1.2.5",
    "emojione": "1.2.3",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "fxemoji": "1.2.2",
    "streamline-emojis": "1.2.4",
}
WRONG = {
    ("fluent-emoji-flat", "white-square-button"): "is the black medium square",
    ("fxemoji", "construction"): "is the crane of a building site",
    ("fxemoji", "keyboard"): "is a piano keyboard",
    ("fxemoji", "sunglasses"): "is a face with sunglasses",
    ("fxemoji", "tramcar"): "has lost its colours: its style sheet is not in the package",
    ("streamline-emojis", "right-anger-bubble"): "is a thought balloon",
    ("streamline-emojis", "turkey"): "is the flag of the country",
}
RESVG = "0.5.0"
SIDE = 64  # px
MIN_STYLES = 6
ALIKE = 1.0  # mean absolute difference, of 255
SALT = "emoji-1"

Picture = NDArray[np.uint8]  # (SIDE, SIDE, 3)
Classes = dict[str, dict[str, Picture]]  # class name -> style -> picture
TONES = ("-light", "-medium-light", "-medium", "-medium-dark", "-dark")


@dataclass(frozen=True)
class IconSet:
    """One package: its drawings, and the second names it gives them.

    Attributes:
        style: the package's name without its scope.
        icons: name -> properties in the iconify JSON format, parents' filled in.
        links: (alias, name) pairs.
    """

    style: str
    icons: dict[str, dict[str, Any]]
    links: list[tuple[str, str]]


def read_set(folder: Path, style: str) -> IconSet:
    """Read one package, without skin tones, hidden icons and wrong drawings."""
    try:
        data = json.loads((folder / style / "icons.json").read_text(encoding="utf-8"))
        met = json.loads((folder / style / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / style}: not an iconify package ({error!r})") from error
    if met != PACKAGES[style]:
        raise DataError(f"{folder / style}: met version {met}, expected {PACKAGES[style]}")
    aliases = data.get("aliases", {})
    toned = skin_tones({*data["icons"], *aliases})
    plain_links = {a for a, own in aliases.items() if own.keys() <= {"parent", "hidden"}}
    icons = {
        name: resolve(data, name)
        for name in sorted({*data["icons"], *aliases} - plain_links - toned)
        if (style, name) not in WRONG
    }
    visible = {name: icon for name, icon in icons.items() if not icon.get("hidden")}
    links = [(alias, aliases[alias]["parent"]) for alias in sorted(plain_links - toned)]
    return IconSet(style, visible, links)


def skin_tones(names: set[str]) -> set[str]:
    """Return the names that are skin tones of another: ``-dark`` counts if all five exist."""
    found = {n for n in names if re.search(r"(light|medium|dark)-skin-tone|tone-?\d", n)}
    for base in {n.removesuffix("-dark") for n in names if n.endswith("-dark")}:
        variants = {base + tone for tone in TONES}
        found |= variants if variants <= names else set()
    return found


def resolve(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an icon's properties; an alias takes its parent's, flips and turns add up."""
    if name in data["icons"]:
        sizes = {key: data[key] for key in ("left", "top", "width", "height") if key in data}
        return {**sizes, **data["icons"][name]}
    own = data["aliases"][name]
    parent = resolve(data, own["parent"])
    turns = {
        "hFlip": parent.get("hFlip", False) != own.get("hFlip", False),
        "vFlip": parent.get("vFlip", False) != own.get("vFlip", False),
        "rotate": parent.get("rotate", 0) + own.get("rotate", 0),
    }
    return {**parent, **own, **turns}


def match(sets: list[IconSet]) -> dict[str, dict[str, str]]:
    """Return class name -> style -> icon name for all groups of names, whatever their size."""
    groups: dict[str, dict[str, str]] = {}
    for icon_set in sets:
        for name in icon_set.icons:
            groups.setdefault(letters(name), {}).setdefault(icon_set.style, name)
    for alias, name in itertools.chain.from_iterable(s.links for s in sets):
        a, b = groups.setdefault(letters(alias), {}), groups.setdefault(letters(name), {})
        if a is b or a.keys() & b.keys():
            continue  # one package draws both: they are two emoji
        b.update(a)
        groups.update({key: b for key, group in groups.items() if group is a})
    order = list(PACKAGES)
    found = {id(group): group for group in groups.values() if group}.values()
    return {group[min(group, key=order.index)]: group for group in found}


def letters(name: str) -> str:
    """Return ``name`` as its letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def rasterise(icon: dict[str, Any]) -> Picture:
    """Return an icon drawn on white, centred, its aspect ratio kept."""
    box = [icon.get("left", 0), icon.get("top", 0), icon.get("width", 16), icon.get("height", 16)]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
    )
    # No system fonts: the picture must not depend on the machine.
    png = resvg().svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)
    picture = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    picture = picture[:, ::-1] if icon.get("hFlip") else picture
    picture = picture[::-1] if icon.get("vFlip") else picture
    return np.ascontiguousarray(np.rot90(picture, -icon.get("rotate", 0)))  # clockwise quarters


def resvg() -> Any:
    """Return the module ``resvg_py``, in the version that the committed pictures were made with."""
    try:
        met = version("resvg_py")
    except PackageNotFoundError:
        met = "none"
    if met != RESVG:
        raise DataError(f"resvg_py: met {met}, expected {RESVG}; pip install resvg_py=={RESVG}")
    return importlib.import_module("resvg_py")


def draw(sets: list[IconSet]) -> Classes:
    """Return the classes with their pictures, copies dropped, in label order."""
    icons = {s.style: s.icons for s in sets}
    classes = {
        name: unlike({s: rasterise(icons[s][group[s]]) for s in PACKAGES if s in group})
        for name, group in match(sets).items()
        if len(group) >= MIN_STYLES
    }
    met = Counter(p.tobytes() for styles in classes.values() for p in styles.values())
    for name, styles in classes.items():
        classes[name] = {s: p for s, p in styles.items() if met[p.tobytes()] == 1}
    kept = [name for name, styles in classes.items() if len(styles) >= MIN_STYLES]
    return {name: classes[name] for name in by_hash(kept, SALT)}


def unlike(styles: dict[str, Picture]) -> dict[str, Picture]:
    """Return the styles of a class without those that look like an earlier one."""
    kept: dict[str, Picture] = {}
    for style, picture in styles.items():
        gaps = [np.abs(picture.astype(np.int16) - other).mean() for other in kept.values()]
        if min(gaps, default=255.0) >= ALIKE:
            kept[style] = picture
    return kept


def contents(classes: Classes) -> Contents:
    """Return what goes into the data file: a sheet holds the drawings of one style."""
    order = list(PACKAGES)
    return Contents(
        pixels=np.stack([p for styles in classes.values() for p in styles.values()]),
        labels=[i for i, styles in enumerate(classes.values()) for _ in styles],
        class_names=list(classes),
        styles=order,
        style=[order.index(s) for styles in classes.values() for s in styles],
        about={
            "salt": SALT,
            "rasteriser": f"resvg_py {RESVG}",
            "packages": {f"@iconify-json/{style}": pinned for style, pinned in PACKAGES.items()},
        },
    )


def contact_sheet(classes: Classes, rows: int = 8) -> Image.Image:
    """Return a picture of the first classes that every style draws: a class a row."""
    full = [name for name, styles in classes.items() if len(styles) == len(PACKAGES)][:rows]
    font, left, step = ImageFont.load_default(13), 150, SIDE + 28
    size = (left + step * len(PACKAGES), 34 + (SIDE + 12) * len(full))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, style in enumerate(PACKAGES):
        label = style.replace("-", "\n", 1) if len(style) > 12 else style
        centre = (left + column * step + SIDE // 2, 15)
        pen.multiline_text(centre, label, "#666", font, "mm", spacing=0, align="center")
    for row, name in enumerate(full):
        top = 34 + row * (SIDE + 12)
        pen.text((left - 20, top + SIDE // 2), name.replace("-", " "), "#222", font, "rm")
        for column, style in enumerate(PACKAGES):
            sheet.paste(Image.fromarray(classes[name][style]), (left + column * step, top))
    return sheet.quantize(256, dither=Image.Dither.NONE)


def main(arguments: list[str] | None = None) -> None:
    """Read the packages, write ``emoji.zip`` and ``SHA256``, say what was made."""
    parser = argparse.ArgumentParser(description="Build the emoji retrieval dataset.")
    parser.add_argument("--out", type=Path, required=True, help="folder for emoji.zip and SHA256")
    parser.add_argument("--packages", type=Path, help="folder of unpacked packages, one each")
    parser.add_argument("--sheet", type=Path, help="also write a picture of some classes")
    options = parser.parse_args(arguments)
    resvg()  # before minutes of work
    with tempfile.TemporaryDirectory() as work:
        packages = options.packages or Path(work)
        if options.packages is None:
            fetch("@iconify-json", PACKAGES, packages)
        classes = draw([read_set(packages, style) for style in PACKAGES])
    made = write("emoji", contents(classes), options.out)
    if options.sheet:
        contact_sheet(classes).save(options.sheet, optimize=True)
    print(made)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"build: {error}")
