"""The kanji set: drawn only from glyphs that exist, by the rules of its build script."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from protocols.dataset import Dataset
from protocols.datasets import _embedded, kanji
from protocols.datasets._building import alike
from protocols.datasets.kanji import build
from protocols.errors import DataError
from tests.measure_datasets import pixels_of

needs_pillow = pytest.mark.skipif(
    PIL.__version__ != build.PILLOW,
    reason=f"needs Pillow {build.PILLOW}, met {PIL.__version__}",
)


@cache
def dataset() -> Dataset:
    return kanji.load()


@cache
def grey() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the images by class and typeface, (1000, 12, 64, 64)."""
    pixels = pixels_of(dataset())
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].reshape(1000, len(build.FAMILIES), 64, 64)


def test_a_class_is_a_character_of_level_one() -> None:
    characters = build.candidates()
    assert len(characters) == len(set(characters)) == 2965
    assert (characters[0], characters[-1]) == ("亜", "腕"), "rows 16 to 47 of JIS X 0208"
    for name in dataset().class_names:
        code, character = name.split()
        assert code == f"U+{ord(character):04X}"
        assert character in characters


def test_characters_are_where_their_names_say() -> None:
    """These have a stroke down the middle, upright, in every typeface."""
    names = [name.split()[1] for name in dataset().class_names]
    for character in "中十木":
        middle = (grey()[names.index(character)] < 128)[:, :, 26:38].any(2)
        assert (middle.mean(1) > 0.5).all(), character


def test_ink_is_centred_and_of_one_size() -> None:
    for style in range(len(build.FAMILIES)):
        boxes = []
        for picture in grey()[::10, style] < 200:
            rows, columns = (np.flatnonzero(picture.any(axis)) for axis in (1, 0))
            assert abs(rows[0] + rows[-1] - 63) <= 3
            assert abs(columns[0] + columns[-1] - 63) <= 3
            boxes.append(max(np.ptp(rows), np.ptp(columns)) + 1)
        assert 47 <= np.median(boxes) <= 52
        assert max(boxes) <= build.LIMIT + 1


def test_no_typeface_draws_two_characters_alike() -> None:
    for style, family in enumerate(build.FAMILIES):
        assert list(alike(grey()[:, style], build.ALIKE)) == [], family


def test_no_two_typefaces_are_one_design() -> None:
    """Twelve images of a class are twelve drawings: the nearest two families stay apart."""
    sample = grey()[::20].astype(np.int16)
    gaps = np.abs(sample[:, :, None] - sample[:, None]).mean((0, 3, 4))
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 20


def test_licences_name_every_package_its_notice_and_the_licence() -> None:
    text = (kanji.HERE / "LICENSES.md").read_text(encoding="utf-8")
    rows = re.findall(r"`@fontsource/([\w-]+)` ([\d.]+) .*\| ([\d,]+) \|$", text, re.MULTILINE)
    assert {family: (pinned, images) for family, pinned, images in rows} == {
        family: (pinned, "1,000") for family, pinned in build.FAMILIES.items()
    }
    for family in build.FAMILIES:
        assert re.search(rf"^- `{family}`: Copyright \d{{4}} The .* Project Authors", text, re.M)
    licence = text.partition("```text\n")[2].partition("\n```")[0]
    assert licence.startswith("SIL OPEN FONT LICENSE Version 1.1")
    assert licence.endswith("OTHER DEALINGS IN THE FONT SOFTWARE.")


# The build, on typefaces made here: a character is a bar whose height tells which.

DRAWN = "亜唖娃阿"


def make_font(path: Path, bars: dict[str, int], width: int, unmapped: str = "") -> None:
    """Write a font: each character a bar of its height, its missing-glyph box a wide block."""

    def bar(width: int, height: int) -> Any:
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        pen.lineTo((0, height))
        pen.lineTo((width, height))
        pen.lineTo((width, 0))
        pen.closePath()
        return pen.glyph()

    glyphs = {".notdef": bar(900, 300)}
    glyphs |= {f"uni{ord(c):04X}": bar(width, height) for c, height in bars.items()}
    cmap = {ord(c): f"uni{ord(c):04X}" for c in bars} | {ord(c): ".notdef" for c in unmapped}
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(list(glyphs))
    font.setupCharacterMap(cmap)
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupPost()
    font.font.flavor = "woff"
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Twelve packages with three characters of four in common, in two files each."""
    for number, (family, pinned) in enumerate(build.FAMILIES.items()):
        files = tmp_path / family / "files"
        width = 40 + 30 * number
        make_font(files / f"{family}-0-400-normal.woff", {"亜": 1000}, width, unmapped="阿")
        rest = {"唖": 700, "娃": 400} | ({"阿": 900} if number else {})
        make_font(files / f"{family}-10-400-normal.woff", rest, width)
        whole = files / f"{family}-japanese-0-400-normal.woff"
        make_font(whole, dict.fromkeys(DRAWN, 100), 900)
        (tmp_path / family / "package.json").write_text(json.dumps({"version": pinned}))
    return tmp_path


def test_only_glyphs_that_a_numbered_file_maps_are_drawn(packages: Path) -> None:
    first, *_, last = build.FAMILIES
    assert set(build.font_files(packages, first)) == set("亜唖娃"), "no box for a missing glyph"
    assert set(build.font_files(packages, last)) == set(DRAWN)
    assert all("japanese" not in p.name for p in build.font_files(packages, last).values())


def test_a_page_is_the_glyph_in_the_middle_at_the_size_of_its_typeface(packages: Path) -> None:
    family = next(iter(build.FAMILIES))
    pages = build.draw(packages, family, list(DRAWN))
    assert list(pages) == list("亜唖娃")
    heights = {}
    for character, page in pages.items():
        rows = np.flatnonzero((page < 128).any(1))
        assert abs(rows[0] + rows[-1] - 63) <= 1
        heights[character] = len(rows)
        assert set(np.unique(page)) <= set(range(0, 256, 17))
    assert heights["唖"] == pytest.approx(build.FILL, abs=1), "the median one"
    assert heights["亜"] == pytest.approx(build.LIMIT, abs=1), "10 / 7 of 50 px is above the limit"
    assert heights["娃"] == pytest.approx(build.FILL * 4 / 7, abs=1)


def test_another_version_or_no_package_is_refused(packages: Path) -> None:
    (packages / "yomogi" / "package.json").write_text('{"version": "9.9.9"}')
    with pytest.raises(DataError, match=r"yomogi: met version 9\.9\.9, expected 5\.3\.0"):
        build.font_files(packages, "yomogi")
    with pytest.raises(DataError, match="klee-one: not a package"):
        build.font_files(packages / "none", "klee-one")


def test_characters_that_one_typeface_draws_alike_are_both_left_out() -> None:
    def page(row: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        blank = np.full((64, 64), 255, np.uint8)
        blank[row : row + 8] = 0
        return blank

    nearly = page(0)
    nearly[0, :8] = 255  # 8 of 4,096 pixels: 0.5 of 255
    drawn = {
        "one": {"亜": page(0), "唖": page(20), "娃": page(40), "阿": page(50)},
        "two": {"亜": page(0), "唖": nearly, "娃": page(40)},
    }
    assert build.choose(drawn) == ["娃"]


def test_pictures_that_are_near_are_found_with_their_difference() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (30, 16, 16), dtype=np.uint8)
    pictures[7] = pictures[3]
    pictures[7, 0, 0] ^= 128
    pictures[20] = np.clip(pictures[11].astype(int) + 3, 0, 255)
    every = {
        (a, b): float(np.abs(pictures[a].astype(int) - pictures[b]).mean())
        for a in range(30)
        for b in range(a + 1, 30)
    }
    assert list(alike(pictures, 4.0)) == [(a, b, gap) for (a, b), gap in every.items() if gap < 4]
    assert len(list(alike(pictures, 90.0))) == sum(gap < 90 for gap in every.values()) > 100


@needs_pillow
def test_build_is_deterministic_and_the_loader_reads_it(packages: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        build.main(["--out", str(tmp_path / folder), "--packages", str(packages)])
    one, two = ((tmp_path / f / "kanji.zip").read_bytes() for f in ("one", "two"))
    assert one == two
    made = _embedded.read("kanji", tmp_path / "one")
    assert sorted(made.class_names) == ["U+4E9C 亜", "U+5516 唖", "U+5A03 娃"]
    assert made.digest == hashlib.sha256(one).hexdigest()
    for start in (0, 12, 24):
        wide = [(made.images.read(start + i)[..., 0] < 128).any(0).sum() for i in range(12)]
        assert wide == sorted(set(wide)), "typefaces in the order of FAMILIES"


def test_another_pillow_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "PILLOW", "0.1")
    with pytest.raises(DataError, match=r"Pillow: met .*, expected 0\.1"):
        build.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
