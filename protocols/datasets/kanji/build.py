"""Build kanji.zip from twelve typefaces: ``python -m protocols.datasets.kanji.build --out DIR``.

Needs Pillow 13.0.0, fontTools (matplotlib brings it) and, unless ``--packages`` names a folder of
unpacked ones, ``npm``. The rules, in the order in which they apply:

1. Candidates are the 2,965 characters of JIS X 0208, level 1, by Python's ``euc_jp`` codec.
2. A character has an image of a typeface only if the table of a font file maps it to a glyph, so
   that the box for missing glyphs is never drawn.
3. Glyphs are drawn four times as large as needed and averaged, black on white, their ink in the
   middle. One size serves a typeface: its median character is ``FILL`` px long on the longer
   side. The few that would exceed ``LIMIT`` px are drawn smaller.
4. A class has an image of every typeface.
5. Two characters that some typeface draws nearly alike (a mean difference below ``ALIKE`` of 255)
   are both left out.
6. Class ids follow the sha256 of ``SALT`` and the character; the first ``CLASSES`` are kept.
   Images are sorted by (label, style), in ``LEVELS`` shades of grey.

Some families draw one design under two names, so one of each is here: Mochiy Pop One is Noto Sans
JP Black, Zen Maru Gothic nearly Zen Kaku Gothic New, LXGW WenKai nearly Klee One, Noto Serif JP
nearly Shippori Mincho.

The same packages give the same pixels under the same Pillow, which brings FreeType. The
manifest's ``pixels_sha256`` tells whether a difference is in the pictures or in their compression.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import PIL
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from protocols.datasets._building import Contents, alike, by_hash, contact_sheet, fetch, write
from protocols.errors import BenchmarkError, DataError

FAMILIES = {
    "dela-gothic-one": "5.3.0",
    "dotgothic16": "5.3.0",
    "klee-one": "5.3.0",
    "m-plus-rounded-1c": "5.3.0",
    "shippori-mincho": "5.3.0",
    "yusei-magic": "5.3.0",
    "yomogi": "5.3.0",
    "zen-kurenaido": "5.3.0",
    "ma-shan-zheng": "5.3.1",
    "zhi-mang-xing": "5.3.0",
    "long-cang": "5.3.0",
    "zcool-qingke-huangyou": "5.3.0",
}
WEIGHT = 400  # the regular weight of each
PILLOW = "13.0.0"
SIDE = 64  # px
SUPER = 4  # a pixel is the mean of 4 x 4
FILL, LIMIT = 50, 60  # px
PROBE = 200  # px, the size at which a typeface is measured
CLASSES = 1000
LEVELS = 16  # 0, 17, ..., 255
ALIKE = 2.5  # mean absolute difference, of 255
SALT = "kanji-1"

Ink = NDArray[np.uint8]  # (height, width), 255 where there is ink
Pages = dict[str, NDArray[np.uint8]]  # character -> (SIDE, SIDE), 0 where there is ink


def candidates() -> list[str]:
    """Return the characters of JIS X 0208, level 1: rows 16 to 47 of its table."""
    found = []
    for row in range(16, 48):
        for cell in range(1, 95):
            try:
                found.append(bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp"))
            except UnicodeDecodeError:  # the last row is not full
                continue
    return found


def font_files(folder: Path, family: str) -> dict[str, Path]:
    """Return character -> the font file of ``family`` that has a glyph for it.

    The numbered files share a family's characters among them; files named after a language hold
    the same glyphs again.

    Raises:
        DataError: not the package of ``family``, or another version of it.
    """
    try:
        met = json.loads((folder / family / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / family}: not a package ({error!r})") from error
    if met != FAMILIES[family]:
        raise DataError(f"{folder / family}: met version {met}, expected {FAMILIES[family]}")
    name = re.compile(rf"{family}-(\d+)-{WEIGHT}-normal\.woff")
    numbered = {int(m[1]): p for p in (folder / family).rglob("*") if (m := name.fullmatch(p.name))}
    found: dict[str, Path] = {}
    for _, path in sorted(numbered.items()):
        with TTFont(path, lazy=True) as font:
            for code in font.getBestCmap():  # it leaves out what is mapped to the missing glyph
                found.setdefault(chr(code), path)
    return found


def ink(path: Path, size: int, character: str) -> Ink:
    """Return the ink of one glyph, cut out; empty if there is none."""
    font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(character, anchor="ls"))
    page = Image.new("L", (right - left, bottom - top))
    if 0 in page.size:
        return np.zeros((0, 0), np.uint8)
    ImageDraw.Draw(page).text((-left, -top), character, 255, font, anchor="ls")
    drawn = np.asarray(page)
    rows, columns = (np.flatnonzero(drawn.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8)
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw(folder: Path, family: str, characters: list[str]) -> Pages:
    """Return the pages of those ``characters`` that a family has, all in one size."""
    files = font_files(folder, family)
    have = [each for each in characters if each in files]
    if not have:
        raise DataError(f"{folder / family}: holds none of the characters asked for")
    sample = have[:: max(1, len(have) // 200)]
    longest = np.median([max(ink(files[each], PROBE, each).shape) for each in sample])
    size = round(PROBE * FILL * SUPER / float(longest))
    pages = {}
    for each in have:
        glyph = ink(files[each], size, each)
        if max(glyph.shape) > LIMIT * SUPER:
            glyph = ink(files[each], int(size * LIMIT * SUPER / max(glyph.shape)), each)
        if glyph.size:
            pages[each] = page(glyph)
    return pages


def page(glyph: Ink) -> NDArray[np.uint8]:
    """Return a glyph in the middle of a white page, averaged, in ``LEVELS`` shades."""
    whole = np.zeros((SIDE * SUPER, SIDE * SUPER))
    top, left = ((SIDE * SUPER - length) // 2 for length in glyph.shape)
    whole[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    light = 255 - whole.reshape(SIDE, SUPER, SIDE, SUPER).mean((1, 3))
    step = 255 / (LEVELS - 1)
    found: NDArray[np.uint8] = (np.rint(light / step) * step).astype(np.uint8)
    return found


def choose(drawn: dict[str, Pages]) -> list[str]:
    """Return the characters that become classes, in label order; see the rules above."""
    common = [c for c in next(iter(drawn.values())) if all(c in pages for pages in drawn.values())]
    out: set[str] = set()
    for family, pages in drawn.items():
        for one, two, gap in alike(np.stack([pages[each] for each in common]), ALIKE):
            print(f"{common[one]} and {common[two]}: {gap:.2f} of 255 apart in {family}")
            out |= {common[one], common[two]}
    print(f"{len(common)} characters in every typeface, {len(out)} left out as nearly alike")
    return by_hash((each for each in common if each not in out), SALT)[:CLASSES]


def contents(drawn: dict[str, Pages]) -> Contents:
    """Return what goes into the data file: a sheet holds a typeface.

    Raises:
        DataError: two images are the same picture.
    """
    kept = choose(drawn)
    grey = np.stack([pages[each] for each in kept for pages in drawn.values()])
    if max(Counter(picture.tobytes() for picture in grey).values()) > 1:
        raise DataError("two images are the same picture: look at the typefaces, or raise ALIKE")
    return Contents(
        pixels=np.repeat(grey[..., None], 3, axis=-1),
        labels=[label for label in range(len(kept)) for _ in drawn],
        class_names=[f"U+{ord(each):04X} {each}" for each in kept],
        styles=list(drawn),
        style=[number for _ in kept for number in range(len(drawn))],
        about={
            "salt": SALT,
            "rasteriser": f"Pillow {PIL.__version__}, FreeType {features.version('freetype2')}",
            "packages": {f"@fontsource/{family}": FAMILIES[family] for family in drawn},
        },
    )


def check_pillow() -> None:
    """Raise DataError unless Pillow is the one that drew the committed images."""
    if PIL.__version__ != PILLOW:
        raise DataError(f"Pillow: met {PIL.__version__}, expected {PILLOW}; it draws the glyphs")


def main(arguments: list[str] | None = None) -> None:
    """Read the packages, write ``kanji.zip`` and ``SHA256``, say what was made."""
    parser = argparse.ArgumentParser(description="Build the kanji retrieval dataset.")
    parser.add_argument("--out", type=Path, required=True, help="folder for kanji.zip and SHA256")
    parser.add_argument("--packages", type=Path, help="folder of unpacked packages, one each")
    parser.add_argument("--sheet", type=Path, help="also write a picture of some classes")
    options = parser.parse_args(arguments)
    check_pillow()
    with tempfile.TemporaryDirectory() as work:
        packages = options.packages or Path(work)
        if options.packages is None:
            fetch("@fontsource", FAMILIES, packages)
        drawn = {family: draw(packages, family, candidates()) for family in FAMILIES}
    made = contents(drawn)
    print(write("kanji", made, options.out))
    if options.sheet:
        rows = 8 * len(FAMILIES)
        contact_sheet(made.pixels[:rows], len(FAMILIES)).save(options.sheet, optimize=True)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"build: {error}")
