"""Bad images, bad labels, bad names: refused in one line with exit 2, or handled and counted."""

import csv
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.training.splits import DataSource, class_folds, open_fold, prepare
from protocols.errors import BenchmarkError
from protocols.manifest import place
from protocols.partition import labels_of
from protocols.specs.toy import PROTOCOL

SUITE = "Bad data"
RNG = np.random.default_rng(11)


def photo(mode="RGB", size=(24, 18)):
    small = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bomb(width, height):
    """A PNG of a few hundred bytes that says it is gigapixels."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 500))
        + chunk(b"IEND", b"")
    )


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def sixteen_bits():
    return Image.fromarray(RNG.integers(0, 65536, (18, 24), dtype=np.uint16))


def animated():
    return encoded(photo(), "GIF", save_all=True, append_images=[photo(), photo()])


class Own:
    """Eight class folders of two good images, which one fault is put into."""

    def __init__(self, folder, classes=8, each=2):
        self.base, self.root = folder / "mine", folder / "root"
        for label in range(classes):
            for number in range(each):
                self.put(f"c{label:02}/{number}.png", encoded(photo()))

    def put(self, path, content):
        target = os.path.join(os.fsencode(self.base), os.fsencode(path))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)

    @property
    def name(self):
        return f"folder:{self.base}"

    @property
    def folder(self):
        return place(self.root, self.name)

    def call(self, *words):
        return main(["data", *words, self.name, "--root", str(self.root)])

    def plan(self, out):
        """Start a study that must be refused, through the same steps as any.

        Its batch is one that a fold's two classes fill, so nothing else is wrong with it.
        """
        words = ["--datasets", self.name, "--root", str(self.root), "--out", str(out)]
        words += ["--set", "batch_size=8"]
        return main(["run", "--protocol", "toy", "--methods", "ms", "--device", "cpu", *words])


@pytest.fixture
def own(tmp_path):
    return Own(tmp_path)


def one_line(capsys, *says):
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("benchmark: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in says:
        assert word in lines[0]


GOOD = encoded(photo())
UNREADABLE = {
    "zero bytes": b"",
    "cut short": encoded(photo(size=(200, 200)))[:3000],
    "no image": b"<html>404 not found</html>" * 10,
    "decompression bomb (50 gigapixels in 600 bytes)": bomb(250_000, 200_000),
    "damaged in the middle": GOOD[:60] + b"\xff" * 40 + GOOD[100:],
    "another format under an image's name (EPS)": b"%!PS-Adobe-3.0 EPSF-3.0\n",
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_an_unreadable_image(ledger, own, tmp_path, capsys, fault):
    outcome = "`data check` counts it (exit 3); a study is refused with file and remedy (exit 2)"
    with ledger.attempt(SUITE, f"image: {fault}", outcome):
        own.put("c03/bad.png", UNREADABLE[fault])
        assert own.call("prepare") == 0
        assert own.call("check") == 3
        rows = list(csv.reader((own.folder / "check.csv").read_text().splitlines()))[1:]
        assert [row[0] for row in rows if "bad.png" in row[1]] == ["unreadable"]
        assert len([row for row in rows if row[0] == "unreadable"]) == 1
        capsys.readouterr()
        out = tmp_path / "out"
        assert own.plan(out) == 2
        one_line(capsys, "bad.png", "prepare")
        assert not list(out.rglob("*.json"))


ODD = {
    "grey": (encoded(photo("L")), "grey"),
    "CMYK": (encoded(photo("CMYK"), "JPEG"), "cmyk"),
    "palette": (encoded(photo("P")), "palette"),
    "16 bits a channel": (encoded(sixteen_bits()), "16-bit"),
    "animated": (animated(), "frames"),
    "alpha": (encoded(photo("RGBA")), "alpha"),
    "EXIF-rotated": (encoded(photo(), "JPEG", exif=exif(6)), "rotated"),
}


@pytest.mark.parametrize("fault", ODD)
def test_an_odd_image(ledger, own, tmp_path, fault):
    content, kind = ODD[fault]
    with ledger.attempt(
        SUITE, f"image: {fault}", "read as upright RGB and counted by `data check`"
    ):
        own.put("c03/odd.png", content)
        assert own.call("prepare") == 0
        assert own.call("check") == 0
        rows = list(csv.reader((own.folder / "check.csv").read_text().splitlines()))[1:]
        assert kind in {row[0] for row in rows if "odd.png" in row[1]}
        source = source_of(own, tmp_path)
        prepare(source, PROTOCOL)
        train, validation = open_fold(source, PROTOCOL, 0)
        both = np.concatenate([train.index, validation.index])
        pixels, sizes = train.store.batch(both)
        assert pixels.shape[3] == 3
        assert sizes.min() == PROTOCOL.image.resize_px


def source_of(own, folder):
    from protocols.discovery import load

    module = load("dataset", own.name)
    return DataSource(own.name, module.digest(own.root), own.root, folder / "cache")


def test_missing_extra_and_changed_files(ledger, own, tmp_path, capsys):
    with ledger.attempt(SUITE, "extra files of other kinds", "passed over"):
        own.put("c01/notes.txt", b"hello")
        own.put("Thumbs.db", b"\0" * 100)
        assert own.call("prepare") == 0
        assert "16 images in 8 classes" in capsys.readouterr().out
    victim = next(p for p in files_of(own) if p.suffix == ".png")
    outcome = "exit 2, names the file and `data prepare`"
    with ledger.attempt(SUITE, "a file changed after preparation", outcome):
        content = victim.read_bytes()
        victim.write_bytes(encoded(photo()))
        assert own.plan(tmp_path / "out") == 2
        one_line(capsys, victim.name, "changed since", "data prepare")
    with ledger.attempt(SUITE, "a file gone after preparation", outcome):
        victim.unlink()
        assert own.plan(tmp_path / "out") == 2
        one_line(capsys, victim.name, "data prepare")
        victim.write_bytes(content)


def files_of(own):
    return sorted(p for folder in (own.folder, own.base) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("prepared", [False, True], ids=["decoded anew", "decoded before"])
def test_a_manifest_edited_after_preparation(ledger, own, tmp_path, capsys, prepared):
    outcome = "exit 2, names the manifest and `data prepare`, also where all is decoded already"
    with ledger.attempt(SUITE, "manifest edited after preparation", outcome):
        own.call("prepare")
        out = tmp_path / "out"
        if prepared:
            source = source_of(own, out)
            prepare(source, PROTOCOL)
        path = own.folder / "manifest.csv"
        path.write_text(path.read_text().replace(",2,c02,", ",3,c02,", 1))
        capsys.readouterr()
        assert own.plan(out) == 2
        one_line(capsys, "manifest.csv", "data prepare")


def test_labels_with_gaps(ledger, tmp_path, capsys):
    with ledger.attempt(
        SUITE, "labels with gaps (3, 7, 40, …)", "numbered 0, 1, 2, … in their order"
    ):
        own, lines = Own(tmp_path), ["path,label"]
        for label in range(8):
            lines += [f"mine/c{label:02}/{n}.png,{3 + 37 * label}" for n in range(2)]
        (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
        words = [f"csv:{tmp_path / 'list.csv'}", "--root", str(own.root)]
        assert main(["data", "prepare", *words]) == 0
        assert "16 images in 8 classes" in capsys.readouterr().out


def test_too_few_classes(ledger, tmp_path, capsys):
    with ledger.attempt(SUITE, "one class", "exit 2, says how many are needed"):
        own = Own(tmp_path / "one", classes=1)
        assert own.call("prepare") == 2
        one_line(capsys, "1 class folders")
    with ledger.attempt(SUITE, "fewer classes than folds need", "exit 2, says how many are needed"):
        own = Own(tmp_path / "two", classes=2)
        assert own.call("prepare") == 0
        capsys.readouterr()
        assert own.plan(tmp_path / "out") == 2
        one_line(capsys, "classes")


def test_one_image_per_class(ledger, tmp_path, capsys):
    outcome = "`data check` counts every class; queries without a match are excluded and counted"
    with ledger.attempt(SUITE, "one image per class", outcome):
        own = Own(tmp_path, each=1)
        assert own.call("prepare") == 0
        assert own.call("check") == 0
        assert "small class: 8" in capsys.readouterr().out
    with ledger.attempt(SUITE, "no class with two images", "exit 2, says where and what to do"):
        out = tmp_path / "out"
        assert own.plan(out) == 2
        one_line(capsys, "hold 2 images of 2 classes, none with another image")
        assert not list(out.rglob("*.json"))


def test_a_hundred_thousand_classes(ledger, tmp_path):
    with ledger.attempt(SUITE, "100,000 classes", "folds in well under a second"):
        labels = np.repeat(np.arange(100_000), 2)
        folds = class_folds(labels_of(labels, 100_000, None, "halves", ""), PROTOCOL)
        for fold in folds:
            assert not set(fold.train) & set(fold.validation)
            assert not set(fold.test) & (set(fold.train) | set(fold.validation))


NAMES = {
    "not ASCII": "c03/größe 猫 🐈.png",
    "newline, quote, comma, leading dash": '-rf/"a,b"\n$(reboot);`x`.png',
    "markup": "c03/[red]<script>alert(1)</script>[/red].png".replace("/script", "∕script").replace(
        "[/", "[∕"
    ),
    "not UTF-8": b"c03/\xff\xfe.png",
    "255 bytes": f"c03/{'n' * 251}.png",
}


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are not bytes")
@pytest.mark.parametrize("fault", NAMES)
def test_a_hostile_file_name(ledger, own, tmp_path, capsys, fault):
    outcome = "prepared, checked and opened like any other"
    with ledger.attempt(SUITE, f"file name: {fault}", outcome):
        own.put(NAMES[fault], encoded(photo("L")))
        extra = 1 if fault.startswith("newline") else 0
        if extra:
            own.put("-rf/2.png", encoded(photo()))
        assert own.call("prepare") == 0
        assert f"{17 + extra} images in {8 + extra} classes" in capsys.readouterr().out
        assert own.call("check") == 0
        prepare(source_of(own, tmp_path), PROTOCOL)
        open_fold(source_of(own, tmp_path), PROTOCOL, 0)


def test_files_outside_and_links(ledger, own, tmp_path, capsys):
    outcome = "a list that names no such file is refused with exit 2"
    with ledger.attempt(SUITE, "a CSV list that names missing files", outcome):
        (tmp_path / "list.csv").write_text("path,label\nmine/none.png,1\nmine/gone.png,2\n")
        words = [f"csv:{tmp_path / 'list.csv'}", "--root", str(own.root)]
        assert main(["data", "prepare", *words]) == 2
        one_line(capsys, "no such file", "none.png")


def test_every_error_of_the_suite_is_of_the_one_tree():
    assert issubclass(BenchmarkError, Exception)
    assert not Path("mine").exists(), "nothing is written into the current folder"
