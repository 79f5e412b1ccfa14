"""verify results: each of the thirteen checks sees its fault, and nothing in a row can harm."""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.cli import main
from benchmark.site.content import read_results
from benchmark.submissions import budget, judging, leaderboard, schema
from benchmark.submissions import git as history
from benchmark.submissions import read as rowread
from benchmark.submissions.kept import keep
from benchmark.submissions.verify import examine
from protocols.discovery import load
from protocols.metrics import METRICS, reported
from protocols.space import Choice
from protocols.verification import names as names_of_pairs
from tests.benchmark import rows
from tests.benchmark.test_nasty_names import NASTY, assert_seen

ROW = "toy/toy/ms"


def found(results, *, since=None):
    return examine(results, history.find(results), since).problems


def rebuilt(results):
    """Return the problems that stay after the leaderboard is rebuilt."""
    leaderboard.write(results)
    return found(results)


def without_git(results):
    leaderboard.write(results)
    return examine(results, None).problems


def seed(results, number=0):
    return results / ROW / f"seed-{number}.json"


def set_all(path, **values):
    rows.edit(path, lambda body: body.update(values))


def test_a_valid_folder_has_no_problem(results, capsys):
    assert found(results) == []
    code, printed = rows.verify(results, capsys)
    assert (code, printed) == (0, [])


# --- the twelve checks, each with its fault planted -------------------------------------------


def test_1_an_unknown_or_missing_field_a_wrong_type_an_odd_file(results):
    set_all(seed(results), comment="hello")
    rows.edit(seed(results, 1), lambda body: body.pop("status"))
    rows.edit(results / "toy/toy/triplet/cell.json", lambda b: b.update(seeds="2"))
    (results / "toy/toy/untrained" / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    said = dict(reversed(p) for p in without_git(results))
    assert "comment: Extra inputs" in said[f"{ROW}/seed-0.json"]
    assert "status: Field required" in said[f"{ROW}/seed-1.json"]
    assert "seeds: Input should be a valid integer" in said["toy/toy/triplet/cell.json"]
    assert "does not belong" in said["toy/toy/untrained/model.pkl"]


def test_1_an_edit_without_its_checksum(results):
    path = seed(results)
    body = json.loads(path.read_text())
    value = body["concatenated"]["map_at_r"]
    path.write_text(path.read_text().replace(repr(value), repr(round(value + 0.1, 6))))
    trials = results / ROW / "trials.jsonl"
    trials.write_bytes(trials.read_bytes().replace(b'"seconds":', b'"seconds":1', 1))
    messages = [message for message, _ in without_git(results)]
    assert any("checksum is not that of its content" in m for m in messages)
    assert any("checksum is not the one in cell.json" in m for m in messages)


@pytest.mark.parametrize(
    ("old", "new"), [(b"{\n", b'{\n"status": "failed",\n'), (b'"seed": ', b'"seed":  ')]
)
def test_1_what_a_reader_sees_is_what_counts(old, new, results):
    """A doubled key shows one value to a person and another to a parser."""
    seed(results).write_bytes(seed(results).read_bytes().replace(old, new, 1))
    assert without_git(results) == [("is not laid out as `submit` writes it", f"{ROW}/seed-0.json")]


def test_2_an_older_version_is_stale_and_stands_apart(results, capsys):
    def older(body):
        body["identity"]["rules"]["version"] = body["protocol_version"] = 0
        body["identity"]["rules"]["eval_batch"] = 8
        body["protocol_hash"] = "0" * 12

    for name in ("ms", "triplet"):
        rows.reidentify(results / "toy/toy" / name, older)
    assert "protocol_version" in str(without_git(results)), "versions start at 1"

    def rename(body):
        older(body)
        body["identity"]["rules"]["version"] = body["protocol_version"] = 1

    for name in ("ms", "triplet"):
        rows.reidentify(results / "toy/toy" / name, rename)
    assert without_git(results) == []
    assert "3 rows, 2 stale" in _stderr(results, capsys)
    head, stale = (results / "README.md").read_text().split("## Stale")
    assert "`untrained`" in head
    assert "`ms`" not in head
    assert "`ms`" in stale
    assert stale.count(load("protocol", "toy").label) == 1, "a caveat does not go with the version"
    (board,) = (b for b in read_results(results).boards if b.status == "stale")
    assert board.label == load("protocol", "toy").label
    lines = (results / "leaderboard.csv").read_text().splitlines()
    assert {line.split(",")[3] for line in lines[1:] if ",ms," in line} == {"false"}


def _stderr(results, capsys):
    main(["verify", str(results)])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b["identity"]["rules"].update(batch_size=8), "rules are not those"),
        (lambda b: b.update(protocol_hash="0" * 12), "protocol_hash is not that"),
        (lambda b: b.update(protocol_version=99), "protocol_version 99"),
        (lambda b: b.update(protocol="mine"), "does not ship here"),
        (lambda b: b.update(row="other"), "expected the method's name"),
        (lambda b: b.update(trunk="resnet50"), "identity has 'tiny'"),
    ],
)
def test_2_rules_that_do_not_agree(change, said, results):
    rows.reidentify(results / ROW, change)
    assert said in str(without_git(results))


def test_2_an_id_is_the_digest_of_what_it_names(results):
    rows.edit(results / ROW / "cell.json", lambda b: b["identity"].update(method_code="0" * 12))
    assert "id is not the digest of identity" in str(without_git(results))


def test_3_a_seed_is_missing_or_too_many(results):
    shutil.copy(seed(results, 1), seed(results, 2))
    shutil.move(seed(results, 1), results / "toy/toy/triplet/seed-7.json")
    said = without_git(results)
    assert ("is missing", f"{ROW}/seed-1.json") in said
    assert ("is one more than 2 seeds", f"{ROW}/seed-2.json") in said
    assert ("holds seed 1", "toy/toy/triplet/seed-7.json") in said
    assert any("belongs to cell" in message for message, _ in said)


def test_4_a_setting_outside_the_space(results):
    def outside(trials):
        trials[1]["settings"]["alpha"] = 1e6

    rows.edit_trials(results / ROW, outside)
    rows.reidentify(results / ROW, lambda body: None)
    assert "trial 1: alpha=1000000.0: expected [0.001, 100] log" in str(without_git(results))


def test_4_the_first_trial_is_the_defaults_and_no_setting_is_left_out(results):
    def other(trials):
        trials[0]["settings"]["alpha"] = 3.0
        del trials[1]["settings"]["beta"]

    rows.edit_trials(results / ROW, other)
    said = str(without_git(results))
    assert "trial 0: not the authors' defaults" in said
    assert "trial 1: settings" in said
    assert "trial 0: id is not its digest" in said


def test_5_the_choice_is_what_the_rule_picks(results):
    body = json.loads((results / ROW / "cell.json").read_text())
    best = body["chosen"]["trial"]

    def worse(trials):
        trials[best]["folds"] = [0.0, 0.0]
        trials[best]["value"] = 0.0

    rows.edit_trials(results / ROW, worse)
    assert f"the rule picks {(body['chosen']['rule'], 1 - best)}"[:-1] in str(without_git(results))
    rows.edit_trials(results / ROW, lambda trials: trials[best].update(value=0.9))
    assert "value 0.9, expected 0.0" in str(without_git(results))


@pytest.mark.parametrize("change", [lambda t: t.append({**t[0], "number": 2}), lambda t: t.pop()])
def test_6_the_budget_is_the_same_for_every_method(change, results):
    rows.edit_trials(results / ROW, change)
    assert "trials; the protocol has 2" in str(without_git(results))


def test_7_one_commit_clean_and_in_history(results):
    rows.edit(seed(results), lambda b: b["environment"].update(dirty=True))
    rows.edit(seed(results, 1), lambda b: b["environment"].update(commit="0" * 40))
    said = rebuilt(results)
    assert ("ran in a checkout with uncommitted changes", f"{ROW}/seed-0.json") in said
    assert (f"commit {'0' * 40} is not in this history", f"{ROW}/seed-1.json") in said
    assert any(message.startswith("runs of 2 commits") for message, _ in said)


def test_8_one_content_per_dataset(results):
    rows.reidentify(results / ROW, lambda body: body["identity"].update(dataset_digest="f" * 64))
    (problem,) = without_git(results)
    assert "toy has content ffffffffffff, in other rows" in problem[0]
    assert problem[1] == f"{ROW}/cell.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b["concatenated"].update(map_at_r=1.5), "less than or equal to 1"),
        (lambda b: b["concatenated"].update(map_at_r=-0.1), "greater than or equal to 0"),
        (lambda b: b["concatenated"].update(map_at_r=0.9, r_precision=0.8), "above r_precision"),
        (lambda b: b["concatenated"].update(recall_at_2=0.0), "recall_at_2 0.0 below recall_at_1"),
        (lambda b: b["separated"].update(recall_at_1=0.0), "they are one"),
        (lambda b: b["separated"].update(map_at_10=0.5), "do not report the same metrics"),
        (lambda b: b["separated"].update(recall_at_0=0.5), "should match pattern"),
        (lambda b: b["concatenated"].update({"tar_at_far_1e-5": 0.5}), "should match pattern"),
        (lambda b: b["concatenated"].update(opis=-0.1), "greater than or equal to 0"),
        (lambda b: b["separated"].update(map_at_r=0.0), "separated.map_at_r is not the mean"),
        (lambda b: b.update(openings=4), "test data opened 4 times"),
        (lambda b: b["folds"].pop(), "1 folds, the protocol has 2"),
        (lambda b: b.update(concatenated=None), "done, but with a reason or without scores"),
        (lambda b: b.update(status="failed"), "failed, but without a reason or with scores"),
        (lambda b: b.update(status="failed", reason="crash"), "reason: Input should be"),
        (lambda b: b.update(excluded=10**6), "queries excluded"),
    ],
)
def test_9_metrics_that_cannot_be_true(change, said, results):
    rows.edit(seed(results), change)
    assert said in str(without_git(results))


@pytest.mark.parametrize("reason", ["oom", "crash", "timeout", "bad_data"])
def test_a_trial_that_the_machine_lost_is_no_trial(reason, results):
    body = json.loads((results / ROW / "cell.json").read_text())
    other = 1 - body["chosen"]["trial"]

    def lose(trials, reason=reason):
        trials[other].update(status="failed", reason=reason, value=0.0, folds=[None, None])

    rows.edit_trials(results / ROW, lose)
    assert f"trial {other}: lost to the machine ({reason})" in str(without_git(results))
    rows.edit_trials(results / ROW, lambda trials: lose(trials, "error"))
    assert without_git(results) == []


def test_10_no_two_seeds_with_the_same_embeddings(results):
    first = json.loads(seed(results).read_text())
    set_all(seed(results, 1), embeddings_sha256=first["embeddings_sha256"])
    assert without_git(results) == [("has the very embeddings of seed 0", f"{ROW}/seed-1.json")]


def test_11_the_leaderboard_is_what_the_rows_make(results, capsys):
    board, readme = results / "leaderboard.csv", results / "README.md"
    right = board.read_bytes(), readme.read_bytes()
    board.write_bytes(right[0].replace(b",false,", b",true,", 1))
    readme.write_bytes(right[1].replace(b"| submitted; ", b"| verified; ", 1))
    assert [path for _, path in found(results)] == ["README.md", "leaderboard.csv"]
    code, _ = rows.verify(results, capsys, "--rebuild")
    assert code == 0
    assert (board.read_bytes(), readme.read_bytes()) == right


def test_12_what_was_there_is_unchanged(results):
    set_all(seed(results), peak_memory_mb=1)
    seed(results, 1).unlink()
    shutil.rmtree(results / "toy/toy/triplet")
    said = rebuilt(results)
    assert ("was changed since it was submitted", f"{ROW}/seed-0.json") in said
    assert ("was removed since it was submitted", f"{ROW}/seed-1.json") in said
    assert ("was removed since it was submitted", "toy/toy/triplet/cell.json") in said


def test_12_a_commit_does_not_hide_an_edit_from_a_pull_requests_check(results):
    root = results.parent
    rows.git(root, "switch", "--quiet", "-c", "mine")
    set_all(seed(results), peak_memory_mb=1)
    leaderboard.write(results)
    rows.git(root, "commit", "--quiet", "-a", "-m", "better")
    assert found(results) == []
    assert found(results, since="main") == [
        ("was changed since it was submitted", f"{ROW}/seed-0.json")
    ]


def test_12_a_row_is_replaced_by_naming_where_the_earlier_one_is(results):
    commit = rows.git(results, "rev-parse", "HEAD")
    set_all(seed(results), peak_memory_mb=1)
    claim = results / ROW / "claim.toml"
    claim.write_text(claim.read_text().replace('predecessor = ""', f'predecessor = "{commit}"'))
    assert rebuilt(results) == []
    rows.git(results.parent, "commit", "--quiet", "-a", "-m", "replaced")
    set_all(seed(results), peak_memory_mb=2)
    assert rebuilt(results), "a second edit is not covered by the same predecessor"


def reclaim(results, **words):
    """Change fields of the row's claim and commit that."""
    claim = results / ROW / "claim.toml"
    for field, (old, new) in words.items():
        text = claim.read_text()
        assert f'{field} = "{old}"' in text
        claim.write_text(text.replace(f'{field} = "{old}"', f'{field} = "{new}"'))
    leaderboard.write(results)
    rows.git(results.parent, "commit", "--quiet", "-a", "-m", "a claim")


def since_main(results):
    return examine(results, history.find(results), "main")


def test_12_a_claim_that_changed_is_named_for_a_human(results):
    rows.git(results.parent, "switch", "--quiet", "-c", "mine")
    reclaim(results, who=("A. Claimant", "B. Other"), note=("", "mended"))
    said = since_main(results)
    assert said.problems == []
    assert said.looks == [f"{ROW}: claim.toml: who was 'A. Claimant', is 'B. Other'"]


def test_12_stated_deviations_stay(results):
    reclaim(results, deviations=("", "fewer steps"))
    rows.git(results.parent, "switch", "--quiet", "-c", "mine")
    reclaim(results, deviations=("fewer steps", ""))
    ((message, path),) = since_main(results).problems
    assert path == f"{ROW}/claim.toml"
    assert message.startswith("deviations was 'fewer steps', is ''")


def test_12_a_signature_does_not_go_away(results):
    signature = results / ROW / "claim.sig"
    signature.write_text("of a key")
    rows.git(results.parent, "add", "-A")
    rows.git(results.parent, "commit", "--quiet", "-m", "signed")
    rows.git(results.parent, "switch", "--quiet", "-c", "mine")
    signature.write_text("of another key")
    assert f"{ROW}: claim.sig was made anew" in since_main(results).looks
    signature.unlink()
    assert since_main(results).problems == [
        ("was removed since it was submitted", f"{ROW}/claim.sig")
    ]


LOOSE = ["evil.html", "toy/evil.html", "toy/toy/evil.html", "snapshots/x.html", "snapshots/a/b.csv"]


@pytest.mark.parametrize("name", LOOSE)
def test_a_file_that_belongs_nowhere_is_named(name, results):
    (results / name).parent.mkdir(parents=True, exist_ok=True)
    (results / name).write_text("<script>")
    ((message, path),) = found(results)
    assert path == name
    assert "does not belong here" in message


def test_what_may_lie_above_the_rows_is_bounded(results):
    (results / "emoji-classes.png").write_bytes(b"x")
    (results / "toy/toy/output.txt").write_text("what the command prints")
    assert found(results) == []
    (results / "emoji-classes.png").write_bytes(b"x" * (2 << 20))
    assert found(results) == [("2097152 bytes; expected 1048576 at most", "emoji-classes.png")]


def frozen(results, content):
    (results / "snapshots").mkdir()
    (results / "snapshots/2026-01.csv").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda board: b"a,b\n1,2\n", "it lacks the columns ci_high, ci_low"),
        (lambda board: board + b"x,y\n", "2 fields; expected"),
        (lambda board: board.replace(b",concatenated,map_at_r,2,", b",concatenated,map_at_r,z,"),
         "n 'z'; expected a whole number"),
        (lambda board: b"\xff" + board, "is not UTF-8"),
        (lambda board: board + b" " * (17 << 20), "bytes; expected"),
    ],
)  # fmt: skip
def test_a_snapshot_is_a_leaderboard(change, said, results):
    frozen(results, change((results / "leaderboard.csv").read_bytes()))
    messages = [m for m, path in found(results) if path == "snapshots/2026-01.csv"]
    assert any(said in message for message in messages)


def test_a_snapshot_was_the_leaderboard_of_some_commit(results):
    board = results / "leaderboard.csv"
    earlier = board.read_bytes()
    reclaim(results, deviations=("", "fewer steps"))
    assert board.read_bytes() != earlier
    frozen(results, earlier)
    assert found(results) == []
    day = rows.git(results, "log", "-1", "--format=%cs", "HEAD~1")
    (look,) = since_main(results).looks
    assert look == f"snapshots/2026-01.csv: these bytes were first committed on {day}"
    frozen_file = results / "snapshots/2026-01.csv"
    frozen_file.write_bytes(earlier.replace(b",0.", b",0.9", 1))
    assert [path for _, path in found(results)] == ["snapshots/2026-01.csv"]
    assert examine(results, None).problems == []
    assert "was not looked up" in str(examine(results, None).looks)


def test_without_a_repository_it_says_so(results, capsys):
    shutil.rmtree(results.parent / ".git")
    assert main(["verify", str(results)]) == 0
    assert "no git repository here" in capsys.readouterr().err


# --- all at once, and nothing harmful ------------------------------------------------------------


def test_every_problem_is_printed_at_once(results, capsys):
    set_all(seed(results), openings=9)
    rows.edit(seed(results, 1), lambda b: b["environment"].update(dirty=True))
    (results / "toy/toy/triplet/claim.toml").write_text("who = [")
    code, printed = rows.verify(results, capsys)
    assert code == 2
    assert len(printed) >= 5
    assert all(f" @ {results}/" in line for line in printed)


HOSTILE = ["<script>alert(1)</script>", "../../../etc/passwd", "=cmd|'/C calc'!A0", "a\x1b[31mb\n"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["row", "method", "dataset", "protocol", "trunk", "recipe"])
def test_a_hostile_name_is_a_problem_and_stays_out_of_the_tables(field, name, results, capsys):
    rows.reidentify(results / ROW, lambda body: body.update({field: name}))
    code, printed = rows.verify(results, capsys, "--rebuild")
    assert code == 2
    assert not any("\x1b" in line for line in printed)
    for path in (results / "leaderboard.csv", results / "README.md"):
        assert name not in path.read_text()


def test_hostile_words_in_a_claim_reach_no_table(results):
    claim = results / ROW / "claim.toml"
    claim.write_text(claim.read_text().replace("A. Claimant", "<script>|=1+1"))
    leaderboard.write(results)
    for path in (results / "leaderboard.csv", results / "README.md"):
        assert "<script>" not in path.read_text()


def test_what_a_claim_says_is_shown_sign_by_sign(results, capsys):
    """Texts that steer a terminal, turn the line or compute, in every field of a stranger's."""
    text = json.dumps("".join(NASTY), ensure_ascii=True)
    fields = "".join(f"{name} = {text}\n" for name in ("deviations", "predecessor", "note"))
    for who in NASTY[::4]:
        quoted = json.dumps(f"{who} m\u0455", ensure_ascii=True)
        (results / ROW / "claim.toml").write_text(f"who = {quoted}\nhardware = {quoted}\n{fields}")
        assert main(["verify", str(results), "--rebuild"]) == 2
        said = capsys.readouterr()
        assert_seen(said.out + said.err)
        assert f"{ROW}/claim.toml" in said.out
    for name in ("leaderboard.csv", "README.md"):
        assert_seen((results / name).read_text("utf-8"))


def test_links_are_named_and_not_followed(results, tmp_path):
    secret = tmp_path / "secret" / "inner"
    secret.mkdir(parents=True)
    (secret / "cell.json").write_text('{"password": "secret"}')
    (results / "toy" / "evil").symlink_to(secret.parent)
    seed(results).unlink()
    seed(results).symlink_to(secret / "cell.json")
    said = without_git(results)
    paths = [path for message, path in said if message.startswith("a link")]
    assert paths == ["toy/evil", f"{ROW}/seed-0.json"]
    assert "secret" not in str([message for message, _ in said])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b'{"seed": NaN}',
        b'{"a": 1, "a": 2}',
        b"null",
        b" " * (2 << 20),
        b"\x80\x04\x95",
        b'{"__reduce__": ["os.system", "true"]}',
    ],
)
def test_bytes_that_are_no_record_are_one_problem_more(content, results):
    for name in ("cell.json", "trials.jsonl", "claim.toml", "seed-0.json"):
        (results / ROW / name).write_bytes(content)
        assert without_git(results)


def test_it_imports_neither_torch_nor_a_method_nor_pickle(results):
    code = f"""
import sys
from benchmark.cli import main
assert main(["verify", {str(results)!r}, "--rebuild"]) == 0
bad = [m for m in sys.modules if m == "torch" or m.startswith("protocols.methods")]
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=rows.ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    making = {"submit", "rerun"}  # which load the method that they hand in
    paths = sorted((rows.ROOT / "benchmark" / "submissions").rglob("*.py"))
    assert {"verify", "recompute", "chosen", *making} <= {path.stem for path in paths}
    for path in paths:
        name, source = path.stem, path.read_text()
        if name in making:
            continue
        for word in ("pickle.", "import pickle", "eval(", "exec(", "yaml", "Registry"):
            assert word not in source, f"{name} has {word}"


# --- properties ----------------------------------------------------------------------------------


def leaves(value, path=()):
    """Yield (path, value) of every leaf."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def put(body, path, value):
    for key in path[:-1]:
        body = body[key]
    body[path[-1]] = value


def flipped(value):
    """Return a value of the same type that is another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.125
    return "x" if value is None else value[:-1] + ("0" if value[-1:] != "0" else "1")


ONCE = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@ONCE
@given(data=st.data())
def test_any_flipped_field_is_seen(data, results):
    """Edited by hand, whichever field of whichever file it is."""
    files = sorted(p for p in (results / ROW).glob("*.json*"))
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    lines = before.decode().splitlines() if path.suffix == ".jsonl" else [before.decode()]
    number = data.draw(st.integers(0, len(lines) - 1))
    body = json.loads(lines[number])
    where, value = data.draw(st.sampled_from(list(leaves(body))))
    put(body, where, flipped(value))
    if path.suffix == ".jsonl":
        lines[number] = schema.compact(body)
        path.write_bytes(("\n".join(lines) + "\n").encode())
    else:
        path.write_bytes(schema.lines_of(body))
    try:
        assert found(results), f"{where} of {path.name}"
    finally:
        path.write_bytes(before)


# What nobody can recompute from a row: its other numbers may say anything in their range.
FREE = {
    "seconds",
    "train_s",
    "took",
    "peak_memory_mb",
    "counts",
    "best_steps",
    "queries_sha256",
} | {
    "embeddings_sha256",
    "embeddings_shape",
    "environment",
    "validation",
    "ties",
}


@ONCE
@given(data=st.data())
def test_a_careful_forger_is_seen_where_numbers_hang_together(data, results):
    """With checksums made right again, everything that follows from something else is checked."""
    path = data.draw(st.sampled_from(sorted((results / ROW).glob("*.json"))))
    before = path.read_bytes()
    body = json.loads(before)
    places = [(p, v) for p, v in leaves(body) if p[0] not in {*FREE, "sha256", "schema"}]
    where, value = data.draw(st.sampled_from(places))
    put(body, where, flipped(value))
    path.write_bytes(schema.pack({k: v for k, v in body.items() if k != "sha256"}))
    try:
        if where[0] == "space":  # wider bounds: only the method's code can tell
            return
        assert without_git(results), f"{where} of {path.name}"
    finally:
        path.write_bytes(before)


@ONCE
@given(
    data=st.data(),
    junk=st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just({})
    ),
)
def test_junk_anywhere_never_ends_the_check_early(data, junk, results):
    path = data.draw(st.sampled_from(sorted((results / ROW).glob("*.json"))))
    before = path.read_bytes()
    body = json.loads(before)
    inner = [(p, v) for p, v in leaves(body)] + [((key,), body[key]) for key in body]
    where, _ = data.draw(st.sampled_from(inner))
    put(body, where, junk)
    if where == ("sha256",):
        path.write_bytes(schema.lines_of(body))
    else:
        path.write_bytes(schema.pack({k: v for k, v in body.items() if k != "sha256"}))
    try:
        for message, at in without_git(results):
            assert isinstance(message, str)
            assert isinstance(at, str)
    finally:
        path.write_bytes(before)


# --- challenges ----------------------------------------------------------------------------------


def test_the_prediction_interval_covers_as_often_as_it_says():
    """All of m further runs fall inside at least 95 times in 100; scipy gives the quantile."""
    rng = np.random.default_rng(3)
    for n, m in ((3, 2), (10, 2), (10, 5)):
        draws = 0.3 + 0.01 * rng.standard_normal((4000, n + m))
        inside = 0
        for row in draws.tolist():
            low, high = judging.prediction_interval(row[:n], m)
            inside += all(low <= v <= high for v in row[n:])
        assert 0.94 < inside / 4000 < 0.985
    low, high = judging.prediction_interval([0.1, 0.2, 0.4, 0.5], 1)
    expected = stats.t.interval(0.95, 3, 0.3, np.std([1, 2, 4, 5], ddof=1) / 10 * math.sqrt(1.25))
    assert (low, high) == pytest.approx(expected, rel=1e-12)
    assert judging.prediction_interval([0.1, 0.2], 2) is None
    assert judging.prediction_interval([0.3] * 3, 2) == pytest.approx((0.2995, 0.3005))


def claimed(results, values, rerun, who="B. Other"):
    """Return a row whose runs have these headline values, reran with those."""
    row = rowread.read_row(results, results / ROW)
    (one, *_) = row.runs.values()

    def run(value):
        scores = None if value is None else one.concatenated.model_copy(update={"map_at_r": value})
        return one.model_copy(update={"concatenated": scores})

    row.runs = {n: run(v) for n, v in enumerate(values)}
    challenge = schema.Challenge(who=who, hardware="h", note="")
    again = rowread.Rerun(name="challenge-2026-01-31", challenge=challenge)
    again.runs = {
        n: run(v).model_copy(update={"embeddings_sha256": str(n) * 64}) for n, v in enumerate(rerun)
    }
    row.reruns = [again]
    return row


@pytest.mark.parametrize(
    ("values", "rerun", "who", "said"),
    [
        ((0.20, 0.21, 0.22), (0.205, 0.215), "B. Other", "confirms"),
        ((0.20, 0.21, 0.22), (0.205,), "B. Other", "undecided"),
        ((0.20, 0.21, 0.22), (0.5, 0.6), "B. Other", "refutes"),
        ((0.20, 0.21, 0.22), (0.0, 0.6, 0.21), "B. Other", "refutes"),
        ((0.20, 0.21, 0.22), (0.205, 0.5), "B. Other", "undecided"),
        ((0.20, 0.21, 0.22), (0.0,), "B. Other", "undecided"),
        ((0.20, 0.21, 0.22), (0.0, None), "B. Other", "undecided"),
        ((0.20, 0.21, 0.22), (0.205, None), "B. Other", "undecided"),
        ((0.20, 0.21, 0.22), (0.205, 0.215), " a. claimant ", "undecided"),
        ((0.20, 0.21), (0.205, 0.215), "B. Other", "undecided"),
    ],
)
def test_what_a_rerun_says(values, rerun, who, said, results):
    row = claimed(results, values, rerun, who)
    assert judging.judge(row, row.reruns[0]) == said
    rows_ = [row, rowread.read_row(results, results / "toy/toy/triplet")]
    files = leaderboard.build(results, map(keep, rows_))
    text = files[results / "README.md"].decode()
    assert ("| verified; confirmed by challenge-2026-01-31 (unsigned); " in text) == (
        said == "confirms"
    )
    assert ("| **refuted**; refuted by challenge-2026-01-31 (unsigned); " in text) == (
        said == "refutes"
    )
    column = [line.split(",") for line in files[results / "leaderboard.csv"].decode().splitlines()]
    verified = column[0].index("verified")
    assert {line[verified] for line in column[1:] if line[7] == "ms"} == {
        "true" if said == "confirms" else "false"
    }


def test_a_challenge_is_checked_like_the_rest(results):
    folder = results / ROW / "challenge-2026-01-31"
    folder.mkdir()
    shutil.copy(seed(results), folder / "seed-0.json")
    assert ("runs of a challenge without challenge-2026-01-31.toml", f"{ROW}/{folder.name}") in (
        without_git(results)
    )
    form = folder.with_suffix(".toml")
    form.write_text('who = "a. claimant"\nhardware = "h"\nnote = ""\n')
    rows.edit(folder / "seed-0.json", lambda b: b["settings"].update(alpha=3.0))
    said = str(without_git(results))
    assert "made the claim too" in said
    assert "are not the chosen ones" in said
    (folder / "seed-0.json").unlink()
    assert "a challenge without runs" in str(without_git(results))


# --- the leaderboard's numbers --------------------------------------------------------------------


def test_the_leaderboard_says_what_the_study_said(toy_study, submitted):
    import pandas as pd

    board = pd.read_csv(submitted / "results" / "leaderboard.csv")
    summary = pd.read_csv(toy_study / "tables" / "summary.csv")
    pairs = pd.read_csv(toy_study / "tables" / "pairs.csv")
    keys = ["method", "embedding", "metric"]
    both = board.merge(summary, on=keys, suffixes=("", "_study"))
    compared = summary[summary["metric"].isin(METRICS)]
    assert len(both) == len(board) == len(compared) == 18
    assert set(summary["metric"]) - set(names_of_pairs()) == set(reported((1, 2, 4, 8)))
    assert np.allclose(both["mean"], both["mean_study"], atol=1e-6)
    for name in ("test_ci_low", "test_ci_high"):  # from values-N.npz, the same to the last digit
        assert both[name].equals(both[f"{name}_study"])
        assert both[name].notna().any()
    assert (both["test_classes"] == both["test_classes_study"]).all()
    assert (both["trials"] == both["trials_study"]).all()
    ours = board.dropna(subset="difference").rename(columns={"method": "method_a"})
    assert set(ours["method_a"]) == {"ms", "untrained"}
    against = pairs[pairs["method_b"] == "triplet"]
    both = ours.merge(against, on=["method_a", *keys[1:]], suffixes=("", "_study"))
    assert len(both) == 12
    assert (both["verdict"].fillna("") == both["verdict_study"].fillna("")).all()
    assert set(both.loc[both["method_a"] == "ms", "verdict"]) == {"not tested"}  # two seeds
    assert both.loc[both["method_a"] == "untrained", "verdict"].isna().all()
    assert np.allclose(both["difference"], both["mean_difference"], atol=1e-6)


def test_6_a_search_may_end_where_its_space_does():
    search = SimpleNamespace(trials=50, max_failures_in_a_row=3)
    rules = SimpleNamespace(search=search, params="search")
    space = {"loss": Choice(("a", "b", "c"), default="a")}
    cell = SimpleNamespace(made_of=SimpleNamespace(rules=rules), space=space)
    for count, right in ((2, False), (3, True), (4, False)):
        row = SimpleNamespace(trials=[SimpleNamespace(status="done")] * count)
        assert (budget.search_fault(row, cell, space) == "") == right, count


def test_where_two_kinds_of_machine_meet_in_a_table_it_says_so(results):
    def other(body):
        body["environment"].update(cpu_capability="AVX2", mkl_cbwr="COMPATIBLE")

    for number in (0, 1):
        rows.edit(seed(results, number), other)
    leaderboard.write(results)
    text = (results / "README.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Made on unlike machines")]
    assert "CPU instructions" in line
    assert "AVX2 (ms)" in line
    assert "MKL_CBWR" in line
    assert "COMPATIBLE (ms)" in line


@pytest.mark.parametrize(("budget_s", "said"), [(None, ["parameters_trained 7"]), (20.0, [])])
def test_under_a_budget_of_seconds_seeds_may_have_trained_unlike_parts(results, budget_s, said):
    """A slower run may end before a later phase; how large the network is stays the same."""
    row = rowread.read_row(results, results / ROW)
    row.cell.identity["rules"]["budget_s"] = budget_s
    counts = {**row.runs[1].counts, "parameters_trained": 7}
    row.runs[1] = row.runs[1].model_copy(update={"counts": counts})
    met = [message for message, _ in budget.environment_faults(row)]
    assert [message[: len(want)] for message, want in zip(met, said, strict=True)] == said
    counts["parameters_deployed"] = 9
    met = [message for message, _ in budget.environment_faults(row)]
    assert any(message.startswith("parameters_deployed 9") for message in met)
