"""HORDE over the multi-similarity loss."""

from protocols.discovery import load


def test_wrapper_is_a_plugin_of_three_lines():
    source = load("method", "horde_ms").__module__
    text = __import__(source, fromlist=["x"]).__file__
    with open(text, encoding="utf-8") as file:
        code = [line for line in file if line.strip() and not line.strip().startswith('"""')]
    assert len(code) == 3
