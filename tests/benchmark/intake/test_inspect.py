import argparse
import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmark.commands import data as data_commands
from benchmark.intake.inspect import NEAR_BITS, NOTES, PROBLEMS, Finding, check, near_pairs
from benchmark.intake.prepare import prepare
from protocols import manifest
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError
from protocols.manifest import place


def photo(seed: int) -> Image.Image:
    """Return 96 x 64 px of smooth colour noise, different for every seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((96, 64), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(seed: int) -> bytes:
    return encoded(photo(seed), quality=92)


class Own:
    """Classes a to d with two images each, in a list; a and b train, all others test."""

    def __init__(self, folder: Path) -> None:
        self.base, self.root = folder / "mine", folder / "root"
        self.name = f"csv:{self.base / 'list.csv'}"
        self.folder = place(self.root, self.name)
        for label, name in enumerate("abcd"):
            for number in range(2):
                self.put(f"{name}/{number}.jpg", jpeg(label * 2 + number))

    def put(self, path: str, content: bytes) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        (self.base / path).write_bytes(content)
        files = sorted(p for p in self.base.glob("*/*"))
        rows = [(p.relative_to(self.base), p.parent.name) for p in files]
        lines = [f"{p},{name},{'train' if name in 'ab' else 'test'}" for p, name in rows]
        text = "\n".join(["path,label,part", *lines])
        (self.base / "list.csv").write_text(text, encoding="utf-8")

    def check(self) -> list[Finding]:
        prepare(self.name, self.root)
        return check(self.folder, self.name)

    def args(self, **more: object) -> argparse.Namespace:
        given = {"name": self.name, "root": self.root, "archive": None, "download": False}
        given |= {"word": None, "class_level": None, "labels": None}
        return argparse.Namespace(**given | more)


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


def kinds(found: list[Finding]) -> dict[str, str]:
    """Return kind by path, without the folder that prepared files lie in."""
    return {f.path.removeprefix("files/"): f.kind for f in found}


def test_a_clean_dataset_has_no_findings(own: Own) -> None:
    assert own.check() == []


def test_everything_is_found_at_once(own: Own) -> None:
    whole = jpeg(50)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [photo(60), photo(61)]
    own.put("a/truncated.jpg", whole[: len(whole) // 2])
    own.put("a/empty.jpg", b"")
    own.put("a/page.jpg", b"<html>not found</html>")
    own.put("a/grey.jpg", encoded(photo(51).convert("L")))
    own.put("b/cmyk.jpg", encoded(photo(52).convert("CMYK")))
    deep = np.asarray(photo(53).convert("L")).astype(np.uint16) * 257
    own.put("b/deep.png", encoded(Image.fromarray(deep), "PNG"))
    own.put("c/rotated.jpg", encoded(photo(54), exif=exif))
    own.put("c/palette.png", encoded(photo(55).quantize(32), "PNG"))
    own.put("c/alpha.png", encoded(photo(56).convert("RGBA"), "PNG"))
    own.put("d/frames.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    own.put("d/copy.jpg", jpeg(0))  # of a/0.jpg: in the other half
    own.put("d/again.jpg", encoded(photo(1).resize((60, 40)), quality=70))  # of a/1.jpg
    own.put("b/other.jpg", jpeg(1))  # of a/1.jpg
    own.put("d/double.jpg", jpeg(7))  # of d/1.jpg
    own.put("e/lonely.jpg", jpeg(70))
    found = own.check()
    # The class e makes five: the first two train, the last three test.
    expected = {
        "a/truncated.jpg": {"unreadable"},
        "a/empty.jpg": {"unreadable"},
        "a/page.jpg": {"unreadable"},
        "a/grey.jpg": {"grey"},
        "b/cmyk.jpg": {"cmyk"},
        "b/deep.png": {"grey", "16-bit"},
        "c/rotated.jpg": {"rotated"},
        "c/palette.png": {"palette"},
        "c/alpha.png": {"alpha"},
        "d/frames.gif": {"palette", "frames"},
        "d/copy.jpg": {"leak"},
        "d/again.jpg": {"near leak"},
        "b/other.jpg": {"two labels"},
        "d/double.jpg": {"same class"},
        "e/lonely.jpg": {"small class"},
    }
    met: dict[str, set[str]] = {}
    for finding in found:
        met.setdefault(finding.path.removeprefix("files/"), set()).add(finding.kind)
    met["d/frames.gif"] |= {"palette"}  # PIL reads a first frame as colour or as palette
    assert met == expected
    no_queries_here = {"query copy", "near query copy"}
    assert {f.kind for f in found} | {"palette"} == {*PROBLEMS, *NOTES} - no_queries_here
    order = [*PROBLEMS, *NOTES]
    assert found == sorted(found, key=lambda f: (order.index(f.kind), f.path, f.detail))
    reason = next(f.detail for f in found if f.path.endswith("page.jpg"))
    assert "not one of" in reason
    assert "prepare" in reason


def test_a_file_that_changed_or_went_is_found(own: Own) -> None:
    prepare(own.name, own.root)
    (own.folder / "files/a/0.jpg").unlink()
    (own.folder / "files/b/0.jpg").write_bytes(jpeg(99))
    found = check(own.folder, own.name)
    assert kinds(found) == {"a/0.jpg": "unreadable", "b/0.jpg": "unreadable"}
    assert "No such file" in found[0].detail
    assert "changed since" in found[1].detail


@pytest.mark.parametrize(
    "again",
    [
        lambda image: encoded(image, quality=20),
        lambda image: encoded(image.resize((48, 32)), quality=85),
        lambda image: encoded(image.resize((192, 128)), "PNG"),
        lambda image: encoded(image.resize((80, 80)), "WEBP"),
    ],
)
def test_near_duplicates_survive_saving_and_scaling(own: Own, again) -> None:
    own.put("c/again.jpg", again(photo(0)))
    (found,) = own.check()
    assert found.kind == "near leak"
    assert found.path == "files/c/again.jpg"
    assert "a/0.jpg (class 0 'a')" in found.detail


def test_near_duplicates_within_one_half_are_no_leak(own: Own) -> None:
    own.put("b/again.jpg", encoded(photo(0), quality=20))
    assert own.check() == []


def test_flat_images_are_not_taken_for_each_other(own: Own) -> None:
    for name, level in (("a", 250), ("d", 252)):
        own.put(f"{name}/flat.png", encoded(Image.new("RGB", (9, 9), (level,) * 3), "PNG"))
    assert own.check() == []


def test_query_and_gallery_are_the_test_side(tmp_path: Path) -> None:
    lines = ["path,label,part"]
    for number in range(8):  # the train classes come last
        part = "train" if number >= 4 else ("query", "gallery")[number % 2]
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
        lines.append(f"{number}.jpg,{number // 2},{part}")
    (tmp_path / "again.jpg").write_bytes(encoded(photo(7), quality=20))
    lines.append("again.jpg,1,query")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    name = f"csv:{tmp_path / 'list.csv'}"
    prepare(name, tmp_path / "root")
    (found,) = check(place(tmp_path / "root", name), name)
    assert (found.kind, Path(found.path).name) == ("near leak", "again.jpg")


def test_queries_that_lie_in_the_gallery_are_problems(tmp_path: Path) -> None:
    """A manifest of before queries were compared with the gallery by content."""
    folder, rows = tmp_path / "made", []
    for number, (part, content) in enumerate(
        [
            *(("train", jpeg(n)) for n in range(2)),
            *(("gallery", jpeg(n)) for n in range(2, 6)),
            *(("query", jpeg(n)) for n in (2, 2, 7)),
            ("query", encoded(photo(5), quality=20)),
        ]
    ):
        path = folder / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(manifest.Row(path.name, number % 2, "ab"[number % 2], part, sha256))
    manifest.write(folder / manifest.FILE, rows)
    found = [(f.kind, f.path, f.detail) for f in check(folder, "csv:made") if f.kind in PROBLEMS]
    assert found == [
        ("query copy", "6.jpg", "as 2.jpg (class 0 'a')"),
        ("query copy", "7.jpg", "as 2.jpg (class 0 'a')"),
        ("near query copy", "9.jpg", found[-1][2]),
    ]
    assert found[-1][2].startswith("as 5.jpg (class 1 'b'), ")


VALUES = st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=12)


@given(
    left=VALUES,
    flips=st.lists(st.sets(st.integers(0, 63), max_size=8), max_size=12),
    data=st.data(),
)
def test_pairs_are_exactly_those_within_the_distance(left, flips, data) -> None:
    right = [data.draw(st.sampled_from(left)) ^ sum(1 << b for b in some) for some in flips] or [0]
    expected = {
        (i, j)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if (a ^ b).bit_count() <= NEAR_BITS
    }
    met = [
        pair
        for a, b in near_pairs(np.array(left, np.uint64), np.array(right, np.uint64), NEAR_BITS)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert len(met) == len(set(met)), "a pair was yielded twice"
    assert set(met) == expected


def test_pairs_of_a_whole_dataset_take_seconds() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 64, 120_000, dtype=np.uint64)
    values[:100] = values[60_000:60_100] ^ np.uint64(0b1001)
    left, right = values[:60_000], values[60_000:]
    met = [pair for a, b in near_pairs(left, right, NEAR_BITS) for pair in zip(a, b, strict=True)]
    assert set(met) == {(n, n) for n in range(100)}


# --- the commands -------------------------------------------------------------------------------


def test_commands_prepare_check_and_list(own: Own, capsys) -> None:
    own.put("d/copy.jpg", jpeg(0))
    for number in range(12):
        own.put(f"b/grey{number:02}.jpg", encoded(photo(100 + number).convert("L")))
    assert data_commands.prepare(own.args()) == 0
    assert "21 images in 4 classes" in capsys.readouterr().out
    assert data_commands.prepare(own.args()) == 0
    assert "prepared already" in capsys.readouterr().out
    assert data_commands.check(own.args()) == 3
    out = capsys.readouterr().out
    assert "1 problem, 12 notes" in out
    assert "leak: 1" in out
    assert "grey: 12" in out
    assert "and 2 more" in out
    lines = list(csv.reader((own.folder / "check.csv").read_text().splitlines()))
    assert lines[0] == ["kind", "path", "detail"]
    assert len(lines) == 14
    assert data_commands.prepare(own.args()) == 0, "a report must not become part of the data"
    assert "prepared already" in capsys.readouterr().out


def test_notes_alone_are_no_failure(own: Own) -> None:
    own.put("b/grey.jpg", encoded(photo(100).convert("L")))
    prepare(own.name, own.root)
    assert data_commands.check(own.args()) == 0


def test_list_says_where_each_dataset_stands(own: Own, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert data_commands.list_data(own.args(name=None)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for word in ("cub200", "cars196", "sop", "inshop", "folder:PATH", "csv:FILE", "toy", "emoji"):
        assert word in out
    assert "ships with the code" in out
    assert "not prepared" in out
    assert "data.caltech.edu" in out
    data_commands.list_data(own.args(name=None, root=None))


@pytest.mark.parametrize("width", ["60", "80"])
def test_list_breaks_no_address_and_no_name(own: Own, capsys, monkeypatch, width) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert data_commands.list_data(own.args(name=None)) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [word for line in lines for word in line.split()]
    registry, known = Registry(), Registry().names("dataset")
    whole = [name for name in known if registry.usage("dataset", name) == name]
    official = (getattr(registry.load("dataset", name), "OFFICIAL", None) for name in whole)
    addresses = [w for o in official if o for w in o.by_hand.split() if w.startswith("http")]
    assert len(addresses) >= 4
    assert set(addresses) <= set(words)
    assert all(len(line) <= int(width) or len(line.split()) == 1 for line in lines)
    assert {registry.usage("dataset", name) for name in known} <= set(lines)


def test_what_ships_is_checked_too(own: Own, capsys) -> None:
    assert data_commands.check(own.args(name="emoji", root=None)) == 0
    assert "images verified" in capsys.readouterr().out


def test_commands_say_what_is_missing(own: Own) -> None:
    with pytest.raises(InvalidInputError, match="--root DIR"):
        data_commands.check(own.args(root=None))
    with pytest.raises(DataError, match=r"data prepare sop --root"):
        data_commands.check(own.args(name="sop"))


@pytest.mark.parametrize("damaged", [False, True])
def test_findings_are_printed_where_their_file_cannot_be_written(
    own: Own, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    own.put("a/z.jpg", b"" if damaged else jpeg(50))
    prepare(own.name, own.root)
    (own.folder / "check.csv").mkdir()
    assert data_commands.check(own.args()) == (3 if damaged else 0)
    said = capsys.readouterr().out
    assert ("1 problem, " in said) == damaged
    assert ("a/z.jpg" in said) == damaged
    last = said.splitlines()[-1]
    assert last.startswith(f"{own.folder / 'check.csv'} could not be written: ")
    assert "all in" not in said
