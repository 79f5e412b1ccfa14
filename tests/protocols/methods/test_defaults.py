"""Every default has a line that says where it comes from, and the line is true."""

from pathlib import Path

import pytest

from protocols.discovery import Registry, load
from protocols.space import declared, defaults

README = Path(__file__).parents[3] / "protocols" / "methods" / "README.md"
NAMES = Registry().names("method")


def lines():
    """Return (method, setting, default, whose, source) of the table's rows."""
    rows = [line.strip("| \n").split(" | ") for line in README.read_text().splitlines()]
    return [tuple(row) for row in rows if len(row) == 5 and row[0] in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_default_has_one_line_with_its_value(name):
    written = {setting: value for method, setting, value, _, _ in lines() if method == name}
    space = declared(load("method", name))
    assert written == {setting: str(value) for setting, value in defaults(space).items()}


def test_every_line_names_a_source_and_a_setting_once():
    found = lines()
    assert {whose for _, _, _, whose, _ in found} == {"authors", "port", "ours"}
    assert all(source for *_, source in found)
    assert len({row[:2] for row in found}) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_published_settings_are_told_where_they_differ(name):
    method = load("method", name)
    sources = {setting: source for m, setting, _, _, source in lines() if m == name}
    for dataset, settings in method.published.items():
        for setting, value in settings.items():
            if value != defaults(declared(method))[setting]:
                assert f"`{dataset}`" in sources[setting], f"{setting} on {dataset}"


@pytest.mark.parametrize("name", ["ms", "ms_miner"])
def test_multi_similarity_starts_from_its_authors_code_not_from_the_library(name):
    first = defaults(load("method", name).space("emoji"))
    assert (first["alpha"], first["beta"], first["base"]) == (2.0, 40.0, 0.5)


@pytest.mark.parametrize("name", Registry().names("method"))
def test_published_settings_lie_inside_the_space(name):
    method = load("method", name)
    for dataset, settings in method.published.items():
        space = method.space(dataset)
        for key, value in settings.items():
            assert space[key].accept(value) == space[key].default == value
