"""The embedded emoji set is what it says: whole, labelled by its rule, free of copies."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import zipfile
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.dataset import ArrayImages, Dataset
from protocols.datasets import emoji
from protocols.datasets.emoji import build
from protocols.errors import DataError

# Whoever changes these changes every number measured on the set: CHANGELOG, "Numbers".
PIXELS = "90346cffcaaec2248bf8bb1c92ff1f540547f83751c7c777019618bf0a012fc1"
LABELS = "1eb17e2472caf3110b5105cb442acc8f18fa5db5ea8cab4994bdb30a1dfbb52c"


def resvg_version() -> str:
    try:
        return version("resvg_py")
    except PackageNotFoundError:
        return "none"


needs_resvg = pytest.mark.skipif(
    resvg_version() != build.RESVG, reason=f"needs resvg_py {build.RESVG}, met {resvg_version()}"
)


@cache
def dataset() -> Dataset:
    return emoji.load()


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    images = dataset().images
    assert isinstance(images, ArrayImages)
    return images.pixels


@cache
def manifest() -> dict[str, Any]:
    with zipfile.ZipFile(emoji.HERE / emoji.FILE) as archive:
        content: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return content


def test_counts_and_golden_pixels() -> None:
    assert len(dataset().class_names) == len(set(dataset().class_names)) == 1077
    assert pixels().shape == (7305, 64, 64, 3)
    assert pixels().dtype == np.uint8
    assert hashlib.sha256(pixels().tobytes()).hexdigest() == PIXELS
    assert hashlib.sha256(dataset().labels.astype("<i8").tobytes()).hexdigest() == LABELS
    assert "1,077 classes, 7,305 images" in (emoji.__doc__ or "")


def test_labels_are_contiguous_sorted_and_have_six_to_eight_images() -> None:
    labels = dataset().labels
    assert labels.dtype == np.int64
    assert len(labels) == len(dataset().images)
    counts = np.bincount(labels)
    assert len(counts) == 1077
    assert counts.min() == 6
    assert counts.max() == 8
    order = list(zip(labels.tolist(), manifest()["style"], strict=True))
    assert order == sorted(set(order)), "images are sorted by (label, style), one of each"


def test_label_order_follows_the_hash_of_the_name() -> None:
    def key(name: str) -> str:
        return hashlib.sha256(b"emoji-1/" + name.encode()).hexdigest()

    names = list(dataset().class_names)
    assert names == sorted(names, key=key)
    # The point of the rule: neighbours in the alphabet do not share a half of the label range.
    half = {name: label < 1077 // 2 for label, name in enumerate(names)}
    alphabet = sorted(names)
    together = np.mean([half[a] == half[b] for a, b in itertools.pairwise(alphabet)])
    assert 0.4 < together < 0.6


def test_no_picture_occurs_twice_and_none_is_empty() -> None:
    copies = [n for n in Counter(picture.tobytes() for picture in pixels()).values() if n > 1]
    assert not copies
    assert (pixels() < 250).any(axis=(1, 2, 3)).all()


def test_pictures_are_where_their_names_say() -> None:
    def colour(name: str) -> list[float]:
        mean: list[float] = (
            pixels()[dataset().labels == list(dataset().class_names).index(name), 24:40, 24:40]
            .mean(axis=(0, 1, 2))
            .tolist()
        )
        return mean

    for name, channel in (("red-circle", 0), ("green-heart", 1), ("blue-circle", 2)):
        assert np.argmax(colour(name)) == channel
    assert max(colour("black-large-square")) < 60
    assert min(colour("white-large-square")) > 200


def test_digest_is_the_file_and_needs_no_decoding() -> None:
    content = (emoji.HERE / emoji.FILE).read_bytes()
    assert emoji.digest() == dataset().digest == hashlib.sha256(content).hexdigest()
    assert manifest()["pixels_sha256"] == PIXELS


def test_licences_name_every_package_and_count_its_images() -> None:
    text = (emoji.HERE / "LICENSES.md").read_text(encoding="utf-8")
    rows = re.findall(r"`@iconify-json/([\w-]+)` ([\d.]+) .*\| ([\d,]+) \|$", text, re.MULTILINE)
    met = {style: (pinned, int(images.replace(",", ""))) for style, pinned, images in rows}
    counts = Counter(manifest()["styles"][style] for style in manifest()["style"])
    assert met == {style: (pinned, counts[style]) for style, pinned in build.PACKAGES.items()}
    assert manifest()["packages"] == {f"@iconify-json/{s}": v for s, v in build.PACKAGES.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (emoji.FILE, "SHA256"):
        shutil.copy(emoji.HERE / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("where", [40, 1_000_000, -1])
def test_a_flipped_byte_is_named(copy: Path, where: int) -> None:
    content = bytearray((copy / emoji.FILE).read_bytes())
    content[where] ^= 1
    (copy / emoji.FILE).write_bytes(content)
    met = hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError) as error:
        emoji.read(copy)
    message = str(error.value)
    assert str(copy / emoji.FILE) in message
    assert f"met sha256 {met}" in message
    assert f"expected {emoji.digest()}" in message
    assert "git checkout" in message
    assert "protocols.datasets.emoji.build" in message
    assert "\n" not in message


def test_a_truncated_or_missing_file_is_named(copy: Path) -> None:
    whole = (copy / emoji.FILE).read_bytes()
    (copy / emoji.FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"emoji\.zip: met sha256 .*\({len(whole) // 2} bytes\)"):
        emoji.read(copy)
    (copy / emoji.FILE).unlink()
    with pytest.raises(DataError, match=r"emoji\.zip: cannot be read .*git checkout"):
        emoji.read(copy)


@pytest.mark.parametrize("text", ["", "abc  emoji.zip\n", "0" * 64 + "\n", "0" * 64 + "  x.zip\n"])
def test_a_damaged_checksum_file_is_named(copy: Path, text: str) -> None:
    (copy / "SHA256").write_text(text)
    with pytest.raises(DataError, match=r"SHA256: met .*expected '<64 hex digits>  emoji\.zip'"):
        emoji.read(copy)


# The build, on packages made here: plain squares whose colour tells style and emoji.


def icon(shade: int, style: int, **more: Any) -> dict[str, Any]:
    colour = f"#{shade:02x}{40 + 20 * style:02x}80"
    return {"body": f'<path fill="{colour}" d="M0 0h4v8h-4z"/>', **more}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Eight packages: ``two-words`` and ``cat`` in all, and something of every rule."""
    for number, (style, pinned) in enumerate(build.PACKAGES.items()):
        icons = {"two-words": icon(10, number), "cat": icon(90, number)}
        icons |= {f"cat{tone}": icon(100 + i, number) for i, tone in enumerate(build.TONES)}
        icons |= {"cat-light-skin-tone": icon(120, number), "old": icon(130, number, hidden=True)}
        aliases: dict[str, dict[str, Any]] = {"feline": {"parent": "cat"}}
        aliases["tac"] = {"parent": "cat", "hFlip": True}
        if style == "noto":
            icons["twowords"] = icons.pop("two-words")
        if style == "fxemoji":
            icons["feline"] = icons.pop("cat")
            aliases = {"kitty": {"parent": "feline"}}
        if style in ("twemoji", "noto-v1"):  # "puss" is drawn beside "cat" in one of them
            aliases["puss"] = {"parent": "cat"}
        if style == "emojione":
            icons["puss"] = icon(140, number)
        (tmp_path / style).mkdir()
        data = {"prefix": style, "icons": icons, "aliases": aliases, "width": 8, "height": 8}
        (tmp_path / style / "icons.json").write_text(json.dumps(data))
        (tmp_path / style / "package.json").write_text(json.dumps({"version": pinned}))
    return tmp_path


def read_sets(folder: Path) -> list[build.IconSet]:
    return [build.read_set(folder, style) for style in build.PACKAGES]


def test_names_match_across_packages(packages: Path) -> None:
    groups = build.match(read_sets(packages))
    assert set(groups) == {"two-words", "cat", "tac", "puss"}, "no skin tones, nothing hidden"
    assert groups["two-words"]["noto"] == "twowords", "punctuation does not count"
    assert len(groups["cat"]) == 8
    assert groups["cat"]["fxemoji"] == "feline", "an alias of one package holds in all"
    assert groups["puss"] == {"emojione": "puss"}, "not joined: emojione draws both"
    assert len(groups["tac"]) == 7, "a mirrored alias is a drawing of its own"


def test_light_and_medium_are_tones_only_in_a_full_row() -> None:
    full = {f"hand{tone}" for tone in build.TONES}
    assert build.skin_tones({*full, "hand", "police-car", "police-car-light"}) == full
    assert build.skin_tones({"white-medium-square", "light-bulb", "boy-tone1"}) == {"boy-tone1"}


def test_alias_chains_add_up() -> None:
    data = {
        "width": 4,
        "icons": {"a": {"body": "<a/>", "height": 2}},
        "aliases": {
            "b": {"parent": "a", "hFlip": True, "rotate": 1},
            "c": {"parent": "b", "hFlip": True, "vFlip": True, "rotate": 2, "left": 1},
        },
    }
    met = build.resolve(data, "c")
    assert [met[k] for k in ("body", "width", "height", "left")] == ["<a/>", 4, 2, 1]
    assert [met[k] for k in ("hFlip", "vFlip", "rotate")] == [False, True, 3]


def test_another_version_of_a_package_is_refused(packages: Path) -> None:
    (packages / "noto" / "package.json").write_text('{"version": "9.9.9"}')
    with pytest.raises(DataError, match=r"noto: met version 9\.9\.9, expected 1\.2\.9"):
        build.read_set(packages, "noto")


def test_copies_within_a_class_count_once() -> None:
    first = np.full((64, 64, 3), 100, np.uint8)
    nearly, other = first.copy(), first + 50
    nearly[0, :3] = 255
    kept = build.unlike({"twemoji": first, "emojione": nearly, "noto": other})
    assert list(kept) == ["twemoji", "noto"]


@needs_resvg
def test_build_is_deterministic_and_the_loader_reads_it(packages: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        build.main(["--out", str(tmp_path / folder), "--packages", str(packages)])
    one, two = ((tmp_path / f / emoji.FILE).read_bytes() for f in ("one", "two"))
    assert one == two
    made = emoji.read(tmp_path / "one")
    assert sorted(made.class_names) == ["cat", "tac", "two-words"]
    assert made.digest == hashlib.sha256(one).hexdigest()
    place = {"cat": (90, slice(0, 30)), "two-words": (10, slice(0, 30)), "tac": (90, slice(34, 64))}
    for number, label in enumerate(made.labels):
        shade, half = place[made.class_names[label]]
        red = made.images.read(number)[..., 0]
        assert (red[:, half] == shade).all(), "the drawn half, mirrored for the mirrored alias"
        assert (red == shade).mean() == 0.5
    styles = {name: list(range(8)) for name in place} | {"tac": [0, 1, 2, 3, 4, 5, 7]}
    greens = [
        int(made.images.read(number)[32].min(axis=0)[1]) for number in range(len(made.labels))
    ]
    assert greens == [40 + 20 * style for name in made.class_names for style in styles[name]]


@needs_resvg
def test_a_picture_of_two_classes_leaves_both(packages: Path) -> None:
    path = packages / "twemoji" / "icons.json"
    data = json.loads(path.read_text())
    data["icons"]["two-words"] = data["icons"]["cat"]
    path.write_text(json.dumps(data))
    classes = build.draw(read_sets(packages))
    assert {name: len(styles) for name, styles in classes.items()} == {
        "cat": 7,
        "two-words": 7,
        "tac": 7,
    }
    assert all("twemoji" not in classes[name] for name in ("cat", "two-words"))


@needs_resvg
def test_icons_are_fitted_into_the_square_and_turned_clockwise() -> None:
    body = '<path fill="#000" d="M10 20h4v1h-4z"/>'
    wide = {"body": body, "left": 10, "top": 20, "width": 4, "height": 2}
    dark = build.rasterise(wide)[..., 0] < 128
    assert dark[16:32].all(), "4:2 in 64 px: rows 16 to 48, the upper half drawn"
    assert dark.sum() == 16 * 64
    turned = build.rasterise({**wide, "rotate": 1})[..., 0] < 128
    assert turned[:, 32:48].all(), "up turns to the right"
