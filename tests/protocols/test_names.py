"""Names: what they may hold, which are alike, how text shows and how it comes back."""

import io
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import names
from protocols.names import (
    alike,
    fault,
    mixed_word,
    one_line,
    reads_otherwise,
    seen,
    to_field,
    twins,
)

TYPED = (
    *("001", "1e5", "nan", "NaN", "TRUE", "false", "NULL", "None", "N/A", "<NA>", "#N/A", "inf"),
    *("-1", "+5", "1,000", "12%", ".5", "1_000", " ", "-Infinity", "1.#QNAN", "-nan", "#NA"),
    *("2026-01-31", "1/2", "12:30", "MAR1", "1-Sep", "=1+1", "@x", "'quoted", "''"),
)


@pytest.mark.parametrize("name", ["ms", "ms2", "horde_ms", "reality-check", "a.b", "3d", "größe"])
def test_names_that_people_give_are_names(name):
    assert fault(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("", "a b", "a\nb", "a\x1b[31m", "\u202eevil", "a\u200bb", "=cmd", "-x", "@x", "a\tb"),
        *("+1", "a:b", "a/b", "<script>", "a|b", "_x", "x" * 65, "\ud800", "001", "1e5", "nan"),
        *("TRUE", "NULL", "inf", "MAR1"),
    ],
)
def test_other_texts_are_no_names(name):
    assert fault(name)


def test_names_are_alike_that_differ_by_case_or_unicode_form_alone():
    form = unicodedata.normalize("NFD", "größe")
    assert twins("MS", ["ms", "MS", "ms2", "triplet"]) == ["ms"]
    assert twins("größe", [form, "grosse"]) == [form]
    assert twins("GRÖSSE", ["große"]) == []
    assert twins("STRASSE", ["straße"]) == ["straße"]
    assert twins("\ufb01x", ["fix"]) == ["fix"]  # a ligature


@pytest.mark.parametrize(
    ("name", "looks_like"),
    [("\u043c\u0455", "ms"), ("\uff4d\uff53", "ms"), ("m5", ""), ("mI", "ml"), ("pr0xy", "proxy"),
     ("\u0421\u0410\u0420", "cap"), ("\u03bf", "o"), ("\U0001d426s", "ms"), ("\u03b1\u03b2", "")],
)  # fmt: skip
def test_names_are_alike_whose_letters_look_the_same(name, looks_like):
    known = ["ms", "ml", "proxy", "cap", "o", "m", "ab"]
    assert twins(name, known) == ([looks_like] if looks_like else [])


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abcehijkmnopstuvwxyzABCEHKMNOPTXYZ"), min_size=1), st.data())
def test_a_name_in_other_letters_is_alike_in_any_mixture(text, data):
    """Each letter by itself or by one that looks like it."""
    other = "".join(
        data.draw(st.sampled_from([c, *names._LOOKALIKES.get(c, "")]), label=c) for c in text
    )
    assert alike(text, other)


@pytest.mark.parametrize(
    ("text", "mixed"),
    [
        ("m\u0455", True),
        ("m\u200b\u0455", True),
        ("mi\u0301\u0441", True),
        ("\u03b2loss", True),
        ("\u03b2_loss", False),
        ("\u9234\u6728\u3055\u3093", False),
        ("O\u2019Brien", False),
        ("\u02bbOkina", False),
        ("Nguy\u1ec5n", False),
        ("\u043c\u0438\u0440", False),
        ("\uff4ds", False),
        ("ms\u3164", False),
    ],
)
def test_a_word_is_of_one_script(text, mixed):
    assert bool(mixed_word(text)) == mixed


def test_a_sign_is_taken_for_one_letter():
    listed = "".join(names._LOOKALIKES.values())
    assert len(set(listed)) == len(listed)
    assert all(c.isalnum() for c in listed)


def test_an_event_is_one_line():
    assert one_line("a\nb\r\x1b[2K\u202ec\u2028 größe") == r"a\nb\r\x1b[2K\u202ec\u2028 größe"


@given(st.text(st.characters()))
def test_one_line_shows_every_sign(text):
    shown = one_line(text)
    assert shown.isprintable()
    shown.encode()  # no half of a character is left
    assert one_line(shown) == shown
    assert seen(text) == "\n".join(one_line(line) for line in text.split("\n"))


def read(fields):
    """Return texts as pandas reads them by default, but for the apostrophe; see docs/study.md."""
    frame = pd.DataFrame({"text": [to_field(text) for text in fields], "n": 1})
    found = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    return found["text"].str.replace("^'", "", regex=True).tolist()


@pytest.mark.parametrize("text", TYPED)
def test_text_that_looks_like_another_type_comes_back_as_text(text):
    assert read([text]) == [text]
    assert read([text, "words"]) == [text, "words"]
    assert to_field(text)[0] == "'"


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_every_text_comes_back(texts):
    assert read(texts) == [one_line(text) for text in texts]
    assert all(to_field(text)[0] not in "=+-@\t\r" for text in texts)


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.none()))
def test_whatever_is_printed_for_another_type_is_seen_as_one(value):
    assert reads_otherwise(str(value))
