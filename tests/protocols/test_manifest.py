import contextlib
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocols import decoding, manifest
from protocols.decoding import decode
from protocols.errors import DataError
from protocols.manifest import ManifestImages, Row

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)  # wider than high


def row(path: str, label: int, part: str = "", content: bytes = b"", name: str = "") -> Row:
    sha256 = hashlib.sha256(content or path.encode("utf-8", "surrogateescape")).hexdigest()
    return Row(path, label, name or f"class {label}", part, sha256)


def rows_of(labels: list[int]) -> list[Row]:
    return [row(f"files/{number}.jpg", label) for number, label in enumerate(labels)]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# --- the list -----------------------------------------------------------------------------------

FILE_NAME = st.binary(min_size=1, max_size=20).map(os.fsdecode).filter(manifest.is_inside)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    names=st.lists(FILE_NAME, min_size=1, max_size=8, unique=True),
    classes=st.lists(TEXT, min_size=8, max_size=8),
    parts=st.sampled_from([("",), ("train", "test"), ("train", "query", "gallery")]),
    data=st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, names, classes, parts, data) -> None:
    labels = data.draw(st.permutations([min(n, 3) for n in range(len(names))]))
    rows = [
        row(name, label, parts[number % len(parts)], name=classes[label])
        for number, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    path = tmp_path_factory.mktemp("m") / manifest.FILE
    header = manifest.write(path, rows)
    first = path.read_bytes()
    assert manifest.read(path, "m") == (header, tuple(manifest.ordered(rows)))
    assert manifest.read_header(path, "m") == header
    assert manifest.write(path, reversed(rows)) == header
    assert path.read_bytes() == first, "the same rows must give the same bytes"


def test_digest_is_of_content_and_not_of_where_it_lies() -> None:
    here = [row("a/1.jpg", 0, "train", b"one"), row("a/2.jpg", 1, "test", b"two")]
    there = [row("y", 1, "test", b"two"), row("x", 0, "train", b"one")]
    assert manifest.digest(here) == manifest.digest(there)
    for field, value in (("label", 1), ("part", "test"), ("sha256", "0" * 64)):
        changed = [here[0]._replace(**{field: value}), here[1]]
        assert manifest.digest(changed) != manifest.digest(here), field


def test_equal_digests_mean_equal_pictures_at_equal_positions(tmp_path: Path) -> None:
    contents = [b"p", b"q", b"r"]
    orders = []
    for name, turn in (("one", 1), ("two", -1)):
        rows = [row(f"{n}{name}.jpg", 0, content=c) for n, c in enumerate(contents[::turn])]
        manifest.write(_made(tmp_path / name) / manifest.FILE, rows)
        orders.append([r.sha256 for r in manifest.read(tmp_path / name / manifest.FILE, "d")[1]])
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no images"),
        (rows_of([0, 2]), "without a gap"),
        ([row("a", 0, name="x"), row("b", 0, name="y")], "two class names"),
        ([row("a", 0), row("a", 0)], "twice"),
        ([row("a", 0, "validation")], "part"),
        ([row("a", 0, "train"), row("b", 0)], "some do not"),
        ([row("../a", 0)], "outside"),
        ([row("/etc/passwd", 0)], "outside"),
        ([row("a/../../b", 0)], "outside"),
        ([row("a", 0)._replace(sha256="beef")], "sha256"),
    ],
)
def test_rows_that_are_no_dataset_are_refused(tmp_path: Path, rows, says: str) -> None:
    with pytest.raises(DataError, match=says):
        manifest.write(tmp_path / manifest.FILE, rows)
    assert not (tmp_path / manifest.FILE).exists()


def test_an_edit_is_noticed_and_the_cure_is_told(tmp_path: Path) -> None:
    path = tmp_path / manifest.FILE
    manifest.write(path, rows_of([0, 0, 1]))
    good = path.read_bytes()
    for old, new in ((b",1,", b",0,"), (b"2.jpg", b"3.jpg"), (b"class 1", b"class 9")):
        path.write_bytes(good.replace(old, new))
        with pytest.raises(DataError, match=r"edited by hand.*data prepare cub200"):
            manifest.read(path, "cub200")
    path.write_bytes(good.replace(b'"classes": 2', b'"classes": 3'))
    with pytest.raises(DataError, match=r"first line was edited"):
        manifest.read(path, "cub200")


def test_an_escaping_path_is_refused_even_with_the_right_checksums(tmp_path: Path) -> None:
    path = tmp_path / manifest.FILE
    manifest.write(path, rows_of([0, 1]))
    first, _, body = path.read_bytes().partition(b"\n")
    body = body.replace(b"files/1.jpg", b"../x")
    header = json.loads(first) | {"rows": hashlib.sha256(body).hexdigest()}
    path.write_bytes(json.dumps(header).encode() + b"\n" + body)
    with pytest.raises(DataError, match=r"'../x' lies outside"):
        manifest.read(path, "d")


@pytest.mark.parametrize("text", [b"", b"path,label\n", b"[]\n", b'{"name": 1}\n', b"\xff\n"])
def test_a_damaged_first_line_is_a_data_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / manifest.FILE).write_bytes(text)
    with pytest.raises(DataError, match="first line"):
        manifest.read(tmp_path / manifest.FILE, "d")


def test_digest_is_read_without_the_rows(tmp_path: Path) -> None:
    path = _made(tmp_path / "sop") / manifest.FILE
    header = manifest.write(path, rows_of([0, 1]))
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")
    assert manifest.digest_from_manifest("sop", tmp_path) == header.digest


def test_not_prepared_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data prepare sop --root"):
        manifest.dataset_from_manifest("sop", tmp_path)
    with pytest.raises(DataError, match=r"--root DIR"):
        manifest.dataset_from_manifest("sop", None)


def test_own_images_have_a_folder_of_their_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = manifest.place(Path("r"), f"folder:{tmp_path}/my birds")
    assert absolute == manifest.place(Path("r"), "folder:my birds")
    assert absolute.parent == Path("r")
    assert absolute != manifest.place(Path("r"), f"folder:{tmp_path}/my-birds")
    assert manifest.place(Path("r"), "cub200") == Path("r/cub200")


# --- the images ---------------------------------------------------------------------------------


def test_dataset_of_odd_file_names(tmp_path: Path) -> None:
    names = ["ä.png", 'quo"te,comma.png', "new\nline.png", os.fsdecode(b"\xff.png"), "\r.png"]
    rows = []
    for number, name in enumerate(names):
        content = encode(Image.fromarray(PIXELS + np.uint8(number)), "PNG")
        (_made(tmp_path / "d") / name).write_bytes(content)
        rows.append(row(name, number % 2, "train", content))
    header = manifest.write(tmp_path / "d" / manifest.FILE, rows)
    dataset = manifest.dataset_from_manifest("d", tmp_path)
    assert dataset.digest == header.digest
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.class_names == ["class 0", "class 1"]
    assert dataset.parts is not None
    assert set(dataset.parts) == {"train"}
    assert len(dataset.images) == 5
    seen = {dataset.images.read(n)[0, 0, 0] - PIXELS[0, 0, 0] & 255 for n in range(5)}
    assert seen == {0, 1, 2, 3, 4}


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    content = encode(Image.fromarray(PIXELS), "PNG")
    images = ManifestImages(tmp_path, [row("a.png", 0, content=content), row("b.png", 0)])
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(images.read(0), PIXELS)
    (tmp_path / "a.png").write_bytes(content + b"more")
    with pytest.raises(DataError, match=r"a\.png: changed since"):
        images.read(0)
    with pytest.raises(DataError, match=r"b\.png: No such file"):
        images.read(1)


def test_plain_images_are_untouched() -> None:
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        seen = decode(encode(Image.fromarray(PIXELS), kind), "x")
        assert np.array_equal(seen.pixels, PIXELS)
        assert seen.changes == ()


def test_grey_palette_and_bilevel_become_rgb() -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    seen = decode(encode(grey, "PNG"), "x")
    assert np.array_equal(seen.pixels, np.repeat(PIXELS[..., :1], 3, axis=2))
    assert seen.changes == ("grey",)
    assert decode(encode(grey.convert("1"), "PNG"), "x").changes == ("grey",)
    palette = Image.fromarray(PIXELS).quantize(16)
    seen = decode(encode(palette, "PNG"), "x")
    assert np.array_equal(seen.pixels, np.asarray(palette.convert("RGB")))
    assert seen.changes == ("palette",)


def test_cmyk_keeps_black_and_white() -> None:
    page = Image.new("RGB", (16, 16), "white")
    page.paste((0, 0, 0), (0, 0, 8, 16))
    seen = decode(encode(page.convert("CMYK"), "JPEG", quality=95), "x")
    assert seen.changes == ("cmyk",)
    assert seen.pixels[:, :6].max() < 30
    assert seen.pixels[:, 10:].min() > 225


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    deep = np.linspace(0, 65535, 192).round().reshape(12, 16).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        seen = decode(encode(Image.fromarray(deep), kind), "x")
        assert set(seen.changes) == {"grey", "16-bit"}
        assert np.abs(seen.pixels[..., 0] - deep / 257).max() <= 0.5
        assert (seen.pixels == seen.pixels[..., :1]).all()


def test_sixteen_bit_colour_is_noticed() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)  # 2 x 1 px, 16 bits, RGB
    line = b"\0" + struct.pack(">6H", 65535, 0, 257 * 7, 0, 65535, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(line)), chunk(b"IEND", b""))
    seen = decode(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "x")
    assert seen.changes == ("16-bit",)
    assert seen.pixels.tolist() == [[[255, 0, 7], [0, 255, 0]]]


def test_alpha_lies_on_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 255, 0))
    seen = decode(encode(image, "PNG"), "x")
    assert seen.changes == ("alpha",)
    assert seen.pixels[0, 0].tolist() == [255, 255, 255]
    assert seen.pixels[1, 1].tolist() == [255, 0, 0]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    seen = decode(encode(palette, "GIF", transparency=0), "x")
    assert set(seen.changes) == {"palette", "alpha"}
    assert (seen.pixels == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(kind: str, orientation: int) -> None:
    quarters = np.zeros((16, 32, 3), np.uint8)  # red, green / blue, white
    quarters[:8, :16], quarters[:8, 16:] = (255, 0, 0), (0, 255, 0)
    quarters[8:, :16], quarters[8:, 16:] = (0, 0, 255), (255, 255, 255)
    upright = Image.fromarray(quarters)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that a camera's turn undoes
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = decode(encode(stored, kind, exif=exif, quality=95), "x")
    assert seen.pixels.shape == (16, 32, 3)
    assert np.abs(seen.pixels[2:6, 2:14].astype(int) - (255, 0, 0)).max() < 40
    assert np.abs(seen.pixels[2:6, 18:30].astype(int) - (0, 255, 0)).max() < 40
    assert np.abs(seen.pixels[10:14, 2:14].astype(int) - (0, 0, 255)).max() < 40
    assert seen.changes == (() if orientation == 1 else ("rotated",))


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    seen = decode(content, "x")
    assert "frames" in seen.changes
    assert seen.pixels[4, 4].tolist() == [255, 0, 0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_note_does_not_spoil_the_image() -> None:
    content = encode(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode(content, "x").pixels.shape == PIXELS.shape


WHOLE = encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (WHOLE[:300], "cannot be read"),
        (b"<html>404</html>", "not one of BMP, GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not one of"),
        (encode(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "how bright white is"),
    ],
)
def test_what_is_no_image_is_one_data_error(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        decode(content, "birds/a.jpg")
    assert str(caught.value).startswith("birds/a.jpg: cannot be read as an image")
    assert "prepare" not in str(caught.value)  # it may be of no dataset
    with pytest.raises(DataError, match=f"{says}.*{decoding.AND_PREPARE}$"):
        decode(content, "birds/a.jpg", decoding.AND_PREPARE)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch) -> None:
    bomb = encode(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="Make it smaller"):
        decode(bomb, "x")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match=r"16 x 12 px: too large.*Make it smaller"):
        decode(encode(Image.fromarray(PIXELS), "PNG"), "x")


SAMPLES = [
    WHOLE,
    encode(Image.fromarray(PIXELS), "PNG"),
    encode(Image.fromarray(PIXELS), "TIFF"),
    encode(Image.fromarray(PIXELS), "WEBP"),
    encode(Image.fromarray(PIXELS).quantize(8), "GIF"),
]


@given(st.sampled_from(SAMPLES), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_gives_an_image_or_a_data_error(whole, at: int, noise: bytes) -> None:
    at %= len(whole)
    with contextlib.suppress(DataError):  # and nothing else
        decode(whole[:at] + noise + whole[at + len(noise) :], "x")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
