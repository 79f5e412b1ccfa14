"""Who hands something in: asked, told by git and machine, never empty and never misleading."""

import io
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.commands import results as command
from benchmark.submissions import bounds, claims, git
from benchmark.submissions.schema import Challenge, Claim
from protocols.errors import InvalidInputError
from protocols.names import one_line
from tests.benchmark.test_nasty_names import NASTY, assert_seen


def signed(who=None, hardware=None, folder=".", ask=None):
    return claims.signer(who, hardware, folder, "cpu, 1 thread(s)", ask)


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A place where git knows no user."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return tmp_path


def test_git_and_the_machine_tell_what_nobody_said(nobody):
    subprocess.run(["git", "init", "--quiet", str(nobody)], check=True)
    subprocess.run(["git", "-C", str(nobody), "config", "user.name", "A. Claimant"], check=True)
    found = signed(folder=nobody)
    assert found.who == "A. Claimant"
    assert found.hardware.endswith("ran on cpu, 1 thread(s)")
    assert "cores" in found.hardware


def test_without_a_name_it_is_refused(nobody):
    with pytest.raises(InvalidInputError, match="who ran it"):
        signed(folder=nobody)
    with pytest.raises(InvalidInputError, match="who ran it"):
        signed(folder=nobody, ask=lambda what, usual: usual)


def test_who_sits_there_is_asked(nobody):
    asked = []

    def ask(what, usual):
        asked.append(what)
        return "B. Other" if "who" in what else "a small machine"

    assert signed(folder=nobody, ask=ask) == claims.Signer("B. Other", "a small machine")
    assert asked == ["who ran it", "on what hardware"]
    assert signed("C. Third", None, nobody, ask).who == "C. Third"
    assert asked[2:] == ["on what hardware"], "what the command says is not asked"


def test_a_question_at_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nmine\n"))
    assert command._ask("who ran it", "A. Claimant") == "A. Claimant"
    assert command._ask("on what hardware", "this") == "mine"
    with pytest.raises(InvalidInputError, match="Give --who"):
        command._ask("who ran it", "A. Claimant")


@pytest.mark.parametrize("text", [t for t in NASTY if one_line(t) != t.strip()])
def test_signs_that_nobody_sees_are_refused(text):
    for who, hardware in ((f"A. {text}", "h"), ("A. Claimant", f"h {text}")):
        if one_line(text.strip()) == text.strip():
            continue
        with pytest.raises(InvalidInputError) as error:
            signed(who, hardware)
        assert_seen(str(error.value))


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.sampled_from(NASTY), st.text(max_size=40)))
def test_what_is_written_reads_as_what_was_said_or_is_refused(text):
    who, hardware = f"A. Claimant {text}", f'a "machine" {text}'
    try:
        made = signed(who, hardware)
    except InvalidInputError as error:
        assert_seen(str(error))
        return
    for model, content in ((Claim, made.claim()), (Challenge, made.challenge())):
        body = bounds.parse_toml(content)
        assert body == tomllib.loads(content.decode())
        read = model.model_validate(body)
        assert (read.who, read.hardware) == (who.strip(), hardware.strip())
        assert_seen(content.decode())


def test_git_without_a_user_is_nobody(nobody):
    assert git.user(nobody) == ""
