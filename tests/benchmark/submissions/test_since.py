"""verify results --since: what a branch may not do unseen to what was there before it."""

import shutil
from datetime import UTC, datetime

import numpy as np

from benchmark.submissions import git as history
from benchmark.submissions import leaderboard
from benchmark.submissions.verify import examine
from tests.benchmark import rows
from tests.benchmark.submissions import forging
from tests.benchmark.submissions.test_verify import ROW, seed, set_all


def branch(results):
    rows.git(results.parent, "switch", "--quiet", "-c", "mine")


def commit_all(results, message="a change"):
    leaderboard.write(results)
    rows.git(results.parent, "add", "-A")
    rows.git(results.parent, "commit", "--quiet", "-m", message)
    return rows.git(results, "rev-parse", "HEAD")


def since(results, ref="main"):
    return examine(results, history.find(results), ref)


def name_predecessor(results, commit):
    claim = results / ROW / "claim.toml"
    claim.write_text(claim.read_text().replace('predecessor = ""', f'predecessor = "{commit}"'))


def without_its_rerun(results):
    """Lay a rerun beside the row on main; begin a branch whose claim names that as predecessor.

    The branch has removed the rerun.
    """
    folder = forging.challenge(results / ROW, f"{datetime.now(UTC):%Y-%m-%d}")
    commit = commit_all(results, "a rerun")
    branch(results)
    name_predecessor(results, commit)
    shutil.rmtree(folder)
    folder.with_suffix(".toml").unlink()
    return folder.name, commit


def test_a_rerun_stays_as_long_as_one_of_the_runs_that_it_is_about(results):
    rerun, _ = without_its_rerun(results)
    for number in (0, 1):
        set_all(seed(results, number), peak_memory_mb=1)
    commit_all(results)
    met = since(results).problems
    assert {path for _, path in met} >= {f"{ROW}/{rerun}.toml", f"{ROW}/{rerun}/seed-0.json"}
    assert all("/seed-0.json is still the run that it is about" in message for message, _ in met)
    # What its file says of its embeddings is not believed alone.
    set_all(seed(results), embeddings_sha256="a" * 64)
    set_all(seed(results, 1), embeddings_sha256="b" * 64)
    commit_all(results)
    assert {path for _, path in since(results).problems} >= {f"{ROW}/{rerun}.toml"}


def test_a_rerun_goes_with_the_last_of_its_runs_and_that_is_listed(results):
    rerun, commit = without_its_rerun(results)
    for number in (0, 1):
        digests = dict.fromkeys(("embeddings_sha256", "queries_sha256"), f"{number}" * 64)
        set_all(seed(results, number), **digests)
        forging.edit_values(results / ROW, one_query_worse, number)
    commit_all(results)
    found = since(results)
    assert not any(rerun in path for _, path in found.problems)
    assert [look for look in found.looks if "replaced" in look] == [
        f"{ROW}: 2 of the runs that it had in commit {commit[:12]} have been replaced; "
        "reruns gone with them: 1"
    ]


def one_query_worse(arrays):
    ranked = arrays["concatenated_map_at_10"]
    ranked[int(np.argmax(ranked))] /= 2


def test_a_run_that_was_signed_anew_is_listed(results):
    commit = rows.git(results, "rev-parse", "HEAD")
    branch(results)
    name_predecessor(results, commit)
    set_all(seed(results), peak_memory_mb=1)
    commit_all(results)
    found = since(results)
    assert found.problems == []
    assert found.looks == [
        f"{ROW}: 1 of the runs that it had in commit {commit[:12]} have been replaced"
    ]


def test_whose_keys_are_known_does_not_change_unseen(results):
    branch(results)
    assert since(results).looks == []
    signers = results / "allowed_signers"
    signers.write_text("a ssh-ed25519 AAAA\n")
    assert "allowed_signers has changed" in str(since(results).looks)
    commit_all(results)
    assert since(results, "mine").looks == []
    signers.unlink()
    assert "allowed_signers has changed" in str(since(results, "mine").looks)


VOID = """[[void]]
what = "method"
name = "ms"
digests = ["0123456789ab"]
since = 2026-01-01
why = "a wrong sign"
"""


def test_an_entry_of_what_is_void_is_never_removed(results):
    file = results.parent / "protocols/voided.toml"
    file.write_text(VOID)
    commit_all(results)
    branch(results)
    file.write_text(VOID.replace('"ms"', '"other"') + VOID)
    commit_all(results)
    assert since(results).problems == []
    file.write_text(VOID.replace("a wrong sign", "nothing much"))
    commit_all(results)
    ((message, path),) = since(results).problems
    assert path == "../protocols/voided.toml"
    assert message.startswith("the entry of method ms, 2026-01-01, was changed or removed")
    file.write_text("[[void]]\nwhat = 1\n")
    commit_all(results)
    assert since(results).problems == [("does not read", "../protocols/voided.toml")]


def test_a_row_of_an_edited_harness_is_listed_though_the_edit_was_taken_back(submitted, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(submitted, root)
    results, edited = root / "results", root / "protocols/splits.py"
    rows.git(root, "branch", "before", "HEAD~1")  # the code, and no row yet
    rows.git(root, "switch", "--quiet", "-c", "mine", "before")
    right = edited.read_bytes()
    (root / "protocols/methods/new.py").write_text("# a method's file is new, and no edit\n")
    rows.git(root, "add", "-A")
    rows.git(root, "commit", "--quiet", "-m", "a method")
    clean = rows.git(root, "rev-parse", "HEAD")
    edited.write_bytes(right + b"\n# an edit\n")
    rows.git(root, "commit", "--quiet", "-a", "-m", "an edit")
    commit = rows.git(root, "rev-parse", "HEAD")
    edited.write_bytes(right)
    rows.git(root, "commit", "--quiet", "-a", "-m", "tidy")
    rows.git(root, "checkout", "--quiet", "main", "--", "results")

    def made_at(where):
        for path in results.rglob("seed-*.json"):
            rows.edit(path, lambda body: body["environment"].update(commit=where))
        commit_all(results)
        return [look for look in since(results, "before").looks if "whose branch" in look]

    (line,) = made_at(commit)
    assert line.endswith(
        f"made at commit {commit[:12]}, whose branch has edited protocols/splits.py: do these "
        "edits move its numbers?"
    )
    assert ROW in line
    assert made_at(clean) == []
