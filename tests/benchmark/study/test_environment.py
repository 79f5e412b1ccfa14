"""What a record says of the checkout that made it."""

import subprocess

import pytest

from benchmark.study import environment


def git(root, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A committed checkout with one file of each folder that holds code."""
    for folder in ("benchmark", "protocols/methods", "results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\nlocal_*\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "code")
    return tmp_path


def test_a_committed_checkout_is_clean(checkout):
    found = environment.commit(checkout)
    assert len(found["commit"]) == 40
    assert found["dirty"] is False


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        ("protocols/methods/mine.py", True),
        ("benchmark/mine.py", True),
        ("protocols/paper/bounds.csv", True),
        ("protocols/methods/local_mine.py", True),  # code that git ignores runs all the same
        ("protocols/methods/__pycache__/mine.cpython-311.pyc", False),
        ("protocols/local_notes.txt", False),
        ("results/mine.py", False),
        ("notes.txt", False),
    ],
)
def test_an_untracked_file_counts_where_code_and_rules_lie(checkout, path, dirty):
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text("2\n")
    assert environment.commit(checkout)["dirty"] is dirty


def test_an_edited_file_counts_wherever_it_lies(checkout):
    (checkout / "results" / "one.py").write_text("2\n")
    assert environment.commit(checkout)["dirty"] is True


def test_a_plugin_is_clean_where_the_commit_has_it(checkout, tmp_path_factory):
    """Untracked with whatever settings of git, ignored, or somewhere else: in no commit."""
    outside = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    inside, ignored = checkout / "mine.py", checkout / "local_mine.py"
    for path in (outside, inside, ignored):
        path.write_text("2\n")
    git(checkout, "config", "status.showUntrackedFiles", "no")
    for path in (outside, inside, ignored):
        assert environment.commit(checkout, (path,))["dirty"] is True
    assert environment.commit(checkout)["dirty"] is False, "nothing of the plugin ran"
    git(checkout, "add", "mine.py")
    git(checkout, "commit", "--quiet", "-m", "mine")
    environment.commit.cache_clear()
    assert environment.commit(checkout, (inside,))["dirty"] is False
    (checkout / "link.py").symlink_to(inside)
    assert environment.commit(checkout, (checkout / "link.py",))["dirty"] is False


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_an_edit_that_git_is_told_to_overlook_counts(checkout, flag):
    git(checkout, "update-index", flag, "protocols/methods/one.py")
    (checkout / "protocols/methods/one.py").write_text("2\n")
    assert environment.commit(checkout)["dirty"] is True


def test_outside_a_checkout_nothing_is_said(tmp_path):
    assert environment.commit(tmp_path) == {"commit": None, "dirty": None}


def test_a_package_installed_in_another_repository_names_no_commit_of_it(checkout):
    inside = checkout / ".venv" / "lib" / "site-packages"
    inside.mkdir(parents=True)
    assert environment.commit(inside) == {"commit": None, "dirty": None}
    said = environment.no_commit(inside)
    assert f"{inside} lies in {checkout.resolve()}, a checkout of something else" in said


def test_a_link_to_a_checkout_and_a_worktree_of_it_are_checkouts(checkout, tmp_path_factory):
    link, tree = (tmp_path_factory.mktemp("elsewhere") / name for name in ("link", "tree"))
    link.symlink_to(checkout)
    git(checkout, "worktree", "add", "--quiet", str(tree))
    for root in (link, tree):
        assert environment.commit(root)["commit"] == environment.commit(checkout)["commit"]
        assert environment.no_commit(root) == ""


def test_a_checkout_with_a_commit_has_nothing_to_say(checkout):
    assert environment.no_commit(checkout) == ""


def test_why_no_commit_can_be_named(tmp_path, monkeypatch):
    assert "is no git checkout with a commit" in environment.no_commit(tmp_path)
    git(tmp_path, "init", "--quiet")
    assert "is no git checkout with a commit" in environment.no_commit(tmp_path)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # what git's own tests use
    monkeypatch.setenv("LANGUAGE", "de")
    said = environment.no_commit(tmp_path)
    assert said.endswith(f"git config --global --add safe.directory {tmp_path}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git cannot be run" in environment.no_commit(tmp_path)
    assert environment.commit.__wrapped__(tmp_path) == {"commit": None, "dirty": None}
