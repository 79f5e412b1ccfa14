"""Forgeries with right checksums: each is named in a line or few, and an honest row is not."""

import io
import json
import os
import shutil
import time
import zipfile
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.submissions import alike, checking, git, judging, leaderboard, nearly, schema
from benchmark.submissions import read as rowread
from benchmark.submissions.verify import SHOWN, examine
from protocols.discovery import load
from protocols.errors import StoreError
from tests.benchmark import rows
from tests.benchmark.submissions import forging
from tests.benchmark.submissions.forging import (
    challenge,
    edit_cell,
    edit_run,
    edit_values,
    put_values,
    slower,
    take_runs,
)

MS, TRIPLET = "toy/toy/ms", "toy/toy/triplet"
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def checkout(submitted, tmp_path_factory):
    """A checkout whose history has the code and no row yet: rows are new, as a forger's are."""
    root = tmp_path_factory.mktemp("forged") / "checkout"
    shutil.copytree(submitted, root)
    rows.git(root, "reset", "--quiet", "HEAD~1")
    return root / "results"


@pytest.fixture
def results(checkout):
    """The honest rows; whatever a test does to them is undone."""
    kept = {p: p.read_bytes() for p in checkout.rglob("*") if p.is_file()}
    yield checkout
    shutil.rmtree(checkout)
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def findings(results):
    leaderboard.write(results)
    return examine(results, git.find(results))


def said(results):
    """Return every problem of the forged folder as one text a line."""
    return [f"{message} @ {path}" for message, path in findings(results).problems]


def cell_of(row):
    return json.loads((row / "cell.json").read_text())


def test_honest_rows_have_no_problem(results):
    found = findings(results)
    assert (found.problems, found.looks, found.unread) == ([], [], {})


def test_a_method_that_trains_cannot_pose_as_a_row_without_training(results):
    for seed in (0, 1):
        edit_run(
            results / MS,
            lambda body: body["counts"].update(images_trained=0, parameters_trained=0),
            seed,
        )
    assert any("ms.py of commit" in line and line.count("trains") for line in said(results))


def stale(results, version, method="ms"):
    """Hand ms in under easier rules that say they are an earlier version, all ids made right."""

    def easier(body):
        rules = body["identity"]["rules"]
        rules["pace"]["max_steps"] = 10**6
        rules["version"] = body["protocol_version"] = version
        body["protocol_hash"] = "c0ffeec0ffee"
        body["identity"]["method"] = body["method"] = body["row"] = method

    place = f"toy/toy/{method}"
    (results / MS).rename(results / place)
    edit_cell(results / place, easier)


@pytest.fixture
def with_spec(results):
    """Return what commits the protocol's file and makes every row of that commit."""
    root, before = results.parent, rows.git(results, "rev-parse", "HEAD")

    def put(version):
        spec = root / "protocols/specs/toy.py"
        spec.parent.mkdir(exist_ok=True)
        text = f'PROTOCOL = Protocol(\n    name="toy",\n    version={version},\n)\n'
        spec.write_text(text)
        rows.git(root, "add", "protocols")
        rows.git(root, "commit", "--quiet", "-m", "protocol")
        commit = rows.git(root, "rev-parse", "HEAD")
        for path in results.rglob("seed-*.json"):
            rows.edit(path, lambda body: body["environment"].update(commit=commit))

    yield put
    rows.git(root, "reset", "--quiet", "--hard", before)


def test_other_rules_are_no_current_version(results):
    stale(results, load("protocol", "toy").version)
    assert any("other rules are another version" in line for line in said(results))


def test_a_stale_row_is_of_a_version_that_its_commit_has(results, with_spec):
    stale(results, 2)
    assert said(results) == [], "the commit does not say"
    with_spec(2)
    assert said(results) == []
    with_spec(1)
    (line,) = said(results)
    assert "version 2; commit" in line
    assert "has version 1 of toy" in line


def test_a_stale_row_is_of_a_method_that_its_commit_has(results):
    stale(results, 2, "invented")
    (line,) = said(results)
    assert "method 'invented' is in no file of commit" in line


def unmade(body):
    """Say of a run that it kept the first network of each fold, after a single image."""
    body["best_steps"] = [0 for _ in body["best_steps"]]
    body["counts"].update(images_trained=1, images_protocol=1)


def short_of(body):
    batch = load("protocol", "toy").batch_size
    body["counts"]["images_protocol"] = batch * sum(body["best_steps"]) - 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [(unmade, "1 images trained in "), (short_of, "steps or more have ")],
)
def test_a_training_has_the_images_of_its_steps(change, expected, results):
    edit_run(results / MS, change)
    assert any(expected in line for line in said(results))


def test_a_trial_that_took_no_time_is_none(results):
    def free(trials):
        trials[1]["seconds"] = 0.0

    rows.edit_trials(results / MS, free)
    assert any("trial 1: done in 0.0 s" in line for line in said(results))


def test_costs_that_hardly_any_training_has_are_for_a_human_look(results):
    def thin(body):
        body["embeddings_shape"][1] = 1

    for seed in (0, 1):
        edit_run(results / MS, thin, seed)
    rows.edit(results / MS / "cell.json", lambda body: body["took"].update(cpu_s=0.001))
    cost, width = findings(results).looks
    assert cost.startswith(f"{MS}: took cpu_s 0.001, its trials and runs ")
    assert width.startswith(f"{MS}: embeddings of 1 numbers; ")


# --- figures and what every query found -----------------------------------------------------------


def concatenated(**values):
    return lambda row: edit_run(row, lambda body: body["concatenated"].update(values))


def query(name, value, where=0):
    """Return a forgery that sets one query's value everywhere, with the means made to follow."""

    def change(arrays):
        arrays[f"concatenated_{name}"][where] = value

    return lambda row: edit_values(row, change)


def better(row):
    """Raise half of the MAP@R, means and all."""

    def change(arrays):
        ap, rp = arrays["concatenated_map_at_r"], arrays["concatenated_r_precision"]
        ap[::2] = np.minimum(ap[::2] + 0.05, rp[::2])

    edit_values(row, change)


def relabelled(row):
    """Exchange two images' labels that differ: everything else follows."""

    def change(arrays):
        labels = arrays["labels"]
        other = np.flatnonzero(labels != labels[0])[0]
        labels[[0, other]] = labels[[other, 0]]

    for seed in (0, 1):
        edit_values(row, change, seed)


def fewer_images(row):
    """Leave the last images out, and say that there were fewer."""
    for seed in (0, 1):
        arrays = forging.arrays_of(row, seed)
        keep = arrays["labels"] != arrays["labels"][-1]
        assert len(arrays["query"]) == len(keep), "all images of this dataset are queries"
        cut = {n: a[..., keep] for n, a in arrays.items() if n != "query"}
        put_values(row, forging.pack({**cut, "query": np.arange(keep.sum(), dtype="i4")}), seed)
        cut["query"] = np.arange(keep.sum())

        def follow(body, cut=cut):
            forging.follow(body, cut)
            body["embeddings_shape"][0] = len(cut["labels"])

        edit_run(row, follow, seed)


FIGURES = {
    "precision_at_1 between two counts": (
        concatenated(precision_at_1=0.1234567, recall_at_1=0.1234567),
        "precision_at_1 0.1234567 is no multiple of 1/",
    ),
    "map_at_r above r_precision": (concatenated(map_at_r=0.99), "above r_precision"),
    "a better mean than its queries": (
        lambda row: edit_run(row, lambda b: b["concatenated"].update(
            map_at_r=b["concatenated"]["map_at_r"] + 1e-4)),
        "its queries give",
    ),
    "map_at_10 below a tenth of precision_at_1": (concatenated(map_at_10=0.0), "below a tenth"),
    "opis above any variance": (concatenated(opis=0.26), "a variance of fractions is 0.25 at most"),
    "more accepted at a lower far": (
        concatenated(**{"tar_at_far_1e-2": 0.25, "tar_at_far_1e-3": 0.5}),
        "tar_at_far_1e-3 0.5 above tar_at_far_1e-2 0.25",
    ),
    "half a hit": (query("precision_at_1", 0.5), "they are one"),
    "r_precision between two counts": (query("r_precision", 0.0123), "a whole number of R"),
    "map_at_r of no ranking": (query("map_at_r", 0.0123), "map_at_r is one of a ranking"),
    "map_at_r raised in many queries": (better, "map_at_r is one of a ranking"),
    "a first hit that is none": (query("first_hit", 3), "they are one"),
    "a query left out": (query("map_at_r", np.nan), "expected a value for every query"),
    "labels exchanged": (relabelled, "in other rows labels"),
    "fewer images": (fewer_images, "in other rows"),
    "shape of other rows": (
        lambda row: [edit_run(row, lambda b: b["embeddings_shape"].__setitem__(0, 7), s)
                     for s in (0, 1)],
        "labels; embeddings_shape says 7 images",
    ),
    "other width in a seed": (
        lambda row: edit_run(row, lambda b: b["embeddings_shape"].__setitem__(1, 7)),
        "a row has one",
    ),
    "queries said to be left out": (
        lambda row: edit_run(row, lambda b: b.update(excluded=1)),
        "1 queries left out, in other rows",
    ),
    "more ties than queries": (
        lambda row: edit_run(row, lambda b: b.update(ties=10**6)), "1000000 ties of"
    ),
    "no values": (lambda row: (row / "values-0.npz").unlink(), "is missing @ toy/toy/ms/values-0"),
    "the values of another seed": (
        lambda row: shutil.copy(row / "values-1.npz", row / "values-0.npz"),
        "its checksum is not the one in seed-0.json",
    ),
    "schema without values": (
        lambda row: edit_run(row, lambda b: b.update(schema=1, values_sha256=None)),
        "schema: Input should be greater than or equal to 2",
    ),
}  # fmt: skip

# --- budget, machine, code ------------------------------------------------------------------------


def run_change(seed=0, **changes):
    def change(body):
        for name, value in changes.items():
            body[name] = {**body[name], **value} if isinstance(value, dict) else value

    return lambda row: edit_run(row, change, seed)


def identity(**changes):
    def change(body):
        for name, value in changes.items():
            kept = body["identity"][name] if isinstance(value, dict) else None
            body["identity"][name] = {**kept, **value} if kept else value
            if name in ("trunk",):
                body[name] = value

    return lambda row: edit_cell(row, change)


def other_default(row):
    """State another default, and let trial 0 and everything else follow."""

    def trial(trials):
        trials[0]["settings"]["beta"] = 41.0

    def cell(body):
        body["space"]["beta"]["default"] = 41.0
        if body["chosen"]["trial"] == 0:
            body["chosen"]["settings"]["beta"] = 41.0

    rows.edit_trials(row, trial)
    edit_cell(row, cell)
    chosen = cell_of(row)["chosen"]["settings"]
    for seed in (0, 1):
        edit_run(row, lambda body: body.update(settings=chosen), seed)
    edit_cell(row, lambda body: None)


def commits(commit):
    def change(row):
        for seed in (0, 1):
            edit_run(row, lambda b: b["environment"].update(commit=commit(row)), seed)

    return change


def commit_without_code(row):
    tree = rows.git(row, "hash-object", "-t", "tree", "-w", "/dev/null")
    commit = rows.git(row, "commit-tree", tree, "-m", "empty")
    merged = rows.git(row, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-p", commit, "-m", "both")
    rows.git(row, "reset", "--quiet", "--soft", merged)
    return commit


def all_alike(row):
    def change(trials):
        for trial in trials:
            trial.update(folds=trials[0]["folds"], value=trials[0]["value"])

    rows.edit_trials(row, change)
    first = json.loads((row / "trials.jsonl").read_text().splitlines()[0])
    chosen = {"trial": 0, "settings": first["settings"], "value": first["value"]}
    edit_cell(row, lambda body: body["chosen"].update(chosen))
    for seed in (0, 1):
        edit_run(row, lambda body: body.update(settings=first["settings"]), seed)
    edit_cell(row, lambda body: None)


def repeated(row):
    """Hand a setting in twice, with scores of its own: a search with a draw too many."""

    def change(trials):
        trials[1].update(settings=trials[0]["settings"])
        identity = cell_of(row)["id"]
        trials[1]["id"] = rows.digest([identity, "trial", 1, trials[1]["settings"]], 16)

    rows.edit_trials(row, change)
    chosen = cell_of(row)["chosen"]
    if chosen["trial"] == 1:
        first = json.loads((row / "trials.jsonl").read_text().splitlines()[0])
        edit_cell(row, lambda body: body["chosen"].update(settings=first["settings"]))
        for seed in (0, 1):
            edit_run(row, lambda body: body.update(settings=first["settings"]), seed)
        edit_cell(row, lambda body: None)


def disguised(row):
    """Hand seed 0 in as seed 1 too, under other checksums of what nobody sees."""
    take_runs(row, row, {1: 0})
    other = {"embeddings_sha256": "1" * 64, "queries_sha256": "2" * 64, "seconds": 1.9}
    edit_run(row, lambda body: body.update(other), 1)


ROWS = {
    "more images than the budget": (run_change(counts={"images_trained": 10**6}), "1000000 images"),
    "more images than its steps": (
        run_change(counts={"images_trained": 640, "images_protocol": 639}), "steps have 639 of"
    ),
    "more of the protocol's images": (
        run_change(counts={"images_protocol": 10**6}), "images_protocol 1000000; the protocol has"
    ),
    "a step beyond the budget": (run_change(best_steps=[60, 40]), "best step 60; the protocol has"),
    "a step between validations": (run_change(best_steps=[33, 40]), "best step 33; validations"),
    "fewer images than steps": (run_change(counts={"images_trained": 3}), "3 images trained in"),
    "more training than time": (run_change(train_s=9.0, seconds=8.0), "train_s 9.0 above seconds"),
    "no time at all": (run_change(train_s=0.0, seconds=0.0), "expected more than 0"),
    "more of the machine than there is": (
        lambda row: edit_cell(row, lambda body: body["took"].update(machine_s=9e4)),
        "took machine_s 90000.0; in",
    ),
    "more processors than there are": (
        lambda row: edit_cell(row, lambda body: body["took"].update(cpu_s=9e8)),
        "took cpu_s 900000000.0; in",
    ),
    "a card beside the processor": (
        lambda row: edit_cell(row, lambda body: body["took"].update(gpu_s=0.1)),
        "took gpu_s 0.1; its runs were on a cpu",
    ),
    "a power station": (
        lambda row: edit_cell(row, lambda body: body["took"].update(machine_s=0.5, package_j=1e9)),
        "above 20000 W",
    ),
    "energy in no time": (
        lambda row: edit_cell(row, lambda body: body["took"].update(gpu_j=5.0)),
        "without the seconds",
    ),
    "a cost that is not that of its trials and runs": (
        lambda row: edit_cell(row, lambda body: body["took"].update(seconds=9e3)),
        "took 9000.0 s; its trials and runs took",
    ),
    "longer than a job may take": (run_change(seconds=9e5), "a run is stopped after"),
    "a trial longer than it may take": (
        lambda row: rows.edit_trials(row, lambda t: t[0].update(seconds=9e5)),
        "it is stopped after",
    ),
    "a seed of another torch": (run_change(environment={"torch": "9.9"}), "seed 0 has 9.9; a row"),
    "a seed of another device": (
        run_change(1, environment={"device_kind": "cuda"}), "kind of device cuda, seed 0 has cpu"
    ),
    "another network": (run_change(1, counts={"parameters_deployed": 7}), "parameters_deployed 7"),
    "other parts of it trained": (
        run_change(1, counts={"parameters_trained": 7}), "parameters_trained 7"
    ),
    "another method's code": (
        lambda row: identity(method_code=cell_of(row.parent / "triplet")["identity"]
                             ["method_code"])(row),
        "method_code",
    ),
    "another trunk's code": (identity(trunk_code="0" * 12), "trunk_code 000000000000; protocols/"),
    "another rate in the recipe": (identity(recipe={"lr": 0.5}), "recipe: lr not as in protocols/"),
    "a recipe's further value": (identity(recipe={"luck": 1}), "recipe: luck not as in protocols/"),
    "weights under the plain name": (
        identity(weights="sha256:" + "a" * 64), "expected 'tiny+aaaaaaaa'"
    ),
    "a weights' name without weights": (identity(trunk="tiny+aaaaaaaa"), "weights is 'none'"),
    "a repeat of the search": (identity(search_repeat=3), "first search and has none"),
    "salt in the identity": (identity(nonce="x"), "identity.nonce: Extra inputs"),
    "another default": (other_default, "space: beta not as in protocols/methods/ms.py"),
    "wider bounds": (
        lambda row: edit_cell(row, lambda b: b["space"]["alpha"].update(high=1e4)),
        "space: alpha not as in protocols/methods/ms.py",
    ),
    "a commit before the code": (commits(commit_without_code), "'ms' is in no file of commit"),
    "a commit that is no ancestor": (
        commits(lambda row: rows.git(row, "commit-tree", "HEAD^{tree}", "-m", "aside")),
        "is not in this history",
    ),
    "a run under two seeds": (lambda row: take_runs(row, row, {1: 0}), "of seed 0 @"),
    "a run under two seeds, disguised": (disguised, "has the very scores of seed 0"),
    "one per-query file": (run_change(1, queries_sha256="a" * 64), None),
    "another row's runs": (
        lambda row: take_runs(row, row.parent / "ms", {0: 0, 1: 1}),
        "of toy/toy/ms/seed-0.json",
    ),
    "trials all alike": (all_alike, "all 2 trials have the folds"),
    "a setting tried twice": (repeated, "trial 1: the settings of trial 0; expected others"),
}  # fmt: skip
OF_TRIPLET = ("another row's runs",)
LINES = 4  # at most, for one forgery in both seeds


@pytest.mark.parametrize("name", [*FIGURES, *ROWS])
def test_a_forgery_is_named(name, results):
    forge, expected = (FIGURES | ROWS)[name]
    forge(results / (TRIPLET if name in OF_TRIPLET else MS))
    lines = said(results)
    if expected is None:
        assert lines == []
        return
    assert any(expected in line for line in lines), lines
    assert len(lines) <= LINES, lines


def test_ties_alone_are_no_collapse(results):
    """Another row's runs, said to have collapsed: they find more than the order of files does."""
    take_runs(results / MS, results / TRIPLET, {0: 0, 1: 1})
    for seed in (0, 1):
        images = len(forging.arrays_of(results / MS, seed)["labels"])
        edit_run(results / MS, lambda body: body.update(ties=images), seed)  # noqa: B023
        other = {"embeddings_sha256": f"{seed}" * 64, "queries_sha256": f"{seed + 5}" * 64}
        edit_run(results / MS, lambda body: body.update(other), seed)  # noqa: B023
    lines = [line for line in said(results) if "has the very scores of" in line]
    assert len(lines) == 2


def test_embeddings_of_one_point_are_alike(results):
    """What the order of files finds, made here from the labels; two rows may have it honestly."""
    row = rowread.read_row(results, results / MS)
    labels = row.values[0].labels
    relevant = np.array([(labels == label).sum() - 1 for label in labels])
    found = []
    for query, (label, count) in enumerate(zip(labels, relevant, strict=True)):
        others = np.delete(labels, query)[:count] == label
        found.append((others.cumsum() / np.arange(1, count + 1) * others).sum() / count)
    scores = row.runs[0].concatenated.model_copy(update={"map_at_r": float(np.mean(found))})
    run = row.runs[0].model_copy(update={"ties": len(labels), "concatenated": scores})
    assert alike.collapsed(run, row.values[0])
    assert not alike.collapsed(run.model_copy(update={"ties": 0}), row.values[0])
    assert not alike.collapsed(run, None)


def runs_like(found):
    """Return runs as :mod:`nearly` gets them: by place and method, the values of each seed."""
    made = SimpleNamespace(dataset_digest="d")
    for (place, method), values in found.items():
        cell = SimpleNamespace(dataset="toy", made_of=made, method=method, trunk="t", recipe="r")
        moved = np.ones(3, bool)
        samples = {s: nearly.Sample(v.astype(np.float32), moved) for s, v in values.items()}
        yield SimpleNamespace(cell=cell, place=place, search=1), samples


def test_a_copy_with_a_little_changed_is_found():
    """Of few values, so that honest runs agree on some queries."""
    one, two, three, four = np.random.default_rng(0).integers(0, 40, (4, 3, 500)) / 40
    usual = {("p/toy/ms", "ms"): {0: one, 1: two}, ("p/toy/x", "x"): {0: three}}
    assert nearly.between(runs_like(usual)) == ([], [])
    copy = one.copy()
    copy[:, 7] = 0.5
    same = {**usual, ("p/toy/y", "y"): {0: four, 1: copy}}
    ((message, path),), looks = nearly.between(runs_like(same))
    assert (path, looks) == ("p/toy/y/seed-1.json", [])
    assert message.startswith("agrees with p/toy/ms/seed-0.json on 100 %")
    twice = {("p/toy/ms", "ms"): {0: one, 1: copy}}
    assert len(nearly.between(runs_like(twice))[0]) == 1, "two seeds of one row"
    version = {**usual, ("p2/toy/ms", "ms"): {0: copy}}
    assert nearly.between(runs_like(version)) == ([], []), "the cell under another protocol"


def test_runs_that_agree_on_much_are_for_a_human_look():
    one, two = np.random.default_rng(0).integers(1, 40, (2, 3, 500)) / 40
    mixed = np.where(np.arange(500) % 4, one, two)
    found = {("p/toy/x", "x"): {0: one}, ("p/toy/y", "y"): {0: mixed}}
    problems, (look,) = nearly.between(runs_like(found))
    assert problems == []
    assert look.startswith("p/toy/y/seed-0.json: agrees with p/toy/x/seed-0.json on 7")


def test_one_fold_of_another_run_is_found_unless_neither_had_trained():
    one, two = np.random.default_rng(0).integers(1, 40, (2, 3, 500)) / 40
    two[2] = one[2]
    found = list(runs_like({("p/toy/x", "x"): {0: one}, ("p/toy/y", "y"): {0: two}}))
    ((_, path),), _ = nearly.between(found)
    assert path == "p/toy/y/seed-0.json"
    for _, samples in found:
        samples[0].moved[2] = False  # both kept the network that the seed gave them
    assert nearly.between(found) == ([], [])


def test_values_of_another_row_with_one_query_changed_are_named(results):
    """The whole way: one query's MAP@R raised in every model, embeddings said to be others."""
    take_runs(results / MS, results / TRIPLET, {0: 0})

    def change(arrays):
        values = arrays["concatenated_map_at_r"]
        partial = np.flatnonzero((values > 0) & (values < 1))
        values[partial[0]] = values[partial[values[partial] != values[partial[0]]][0]]

    edit_values(results / MS, change)
    edit_run(
        results / MS,
        lambda body: body.update(embeddings_sha256="3" * 64, queries_sha256="4" * 64),
    )
    assert any(
        f"agrees with {MS}/seed-0.json" in line and TRIPLET in line for line in said(results)
    )


def test_trials_with_the_same_scores_are_listed(results):
    """It may be honest, so no problem; all of them alike is one."""
    row = rowread.read_row(results, results / MS)
    first, second = row.trials
    like = first.model_copy(update={"number": 2, "settings": {**first.settings, "beta": 2.5}})
    row.trials = [first, second, like]
    assert list(alike.equal_trials(row)) == [
        f"{MS}: trials 0 and 2 have identical fold scores {first.folds}"
    ]
    row.trials = [first, like]
    assert list(alike.equal_trials(row)) == []
    row.trials = [first, second]
    assert list(alike.equal_trials(row)) == []


def test_many_rows_are_checked_in_two_processes_as_in_one(results, monkeypatch):
    better(results / MS)
    (results / TRIPLET / "claim.toml").unlink()
    alone = findings(results)
    monkeypatch.setattr(checking, "MANY", 2)
    assert findings(results) == alone
    assert {path for _, path in alone.problems} > {f"{TRIPLET}/claim.toml"}


def test_a_check_whose_process_is_ended_says_so(results, monkeypatch):
    monkeypatch.setattr(checking, "MANY", 2)
    monkeypatch.setattr(checking, "_row", lambda *_: os._exit(9))
    with pytest.raises(StoreError, match="ended from outside"):
        checking.checked(results, None)


def test_equal_files_of_queries_are_one_run(results):
    """Under other embeddings and scores, the study's own file is the same."""
    first = json.loads((results / MS / "seed-0.json").read_text())["queries_sha256"]
    edit_run(results / MS, lambda body: body.update(queries_sha256=first), 1)
    assert said(results) == [f"has the very queries of seed 0 @ {MS}/seed-1.json"]


# --- challenges -----------------------------------------------------------------------------------

UNSEEN = {
    "zero width": "A.\u200b Claimant",
    "soft hyphen": "A. Claim\u00adant",
    "right to left": "\u202eA. Claimant\u202c",
    "case": "a. CLAIMANT",
    "wide letters": "Ａ．　Ｃｌａｉｍａｎｔ",
    "ligature and accent": "A. Claima\u0300nt",
    "spaces": "  A .  Claimant ",
    "Hangul filler": "A. Claimant\u3164",
    "letters of formulas": "\U0001d400. Claimant",
    "a capital i for an l": "A. CIaimant",
    "a digit for a letter": "A. C1aimant",
    "a Cyrillic word": "\u0410. Claimant",
    "small capitals": "\u1d00. Claimant",
}


def test_an_honest_rerun_of_the_same_bits_has_no_problem(results):
    challenge(results / MS, str(TODAY))
    assert said(results) == []


@pytest.mark.parametrize("who", UNSEEN.values(), ids=UNSEEN)
def test_the_same_person_is_seen(who, results):
    challenge(results / MS, str(TODAY), who)
    (line,) = said(results)
    assert "made the claim too" in line or "invisible characters" in line
    row = rowread.read_row(results, results / MS)
    assert judging.judge(row, row.reruns[0]) == "undecided"
    form = {"who": who, "hardware": "another", "note": "", "author_of_method": False}
    row.reruns[0].challenge = schema.Challenge.model_construct(**form)
    assert judging.judge(row, row.reruns[0]) == "undecided", "whatever was refused before"


@pytest.mark.parametrize(
    "who", ["A. Cl\u0430imant", "\u0391. \u03f9laimant", "A. Cl\u200b\u0430imant"]
)
def test_a_word_of_two_scripts_is_no_name(who, results):
    """Cyrillic a, Greek sigma, the same behind a sign that nobody sees."""
    challenge(results / MS, str(TODAY), who)
    (line,) = said(results)
    assert "in one word" in line or "invisible characters" in line
    row = rowread.read_row(results, results / MS)
    assert judging.judge(row, row.reruns[0]) == "undecided"


@pytest.mark.parametrize("who", ["", "\u200b", "A. Cl\u0430imant"])
def test_a_claim_is_somebodys(who, results):
    claim = results / MS / "claim.toml"
    claim.write_text(claim.read_text("utf-8").replace("A. Claimant", who), "utf-8")
    (line,) = said(results)
    assert line.endswith(f"{MS}/claim.toml")


@pytest.mark.parametrize(
    ("field", "old"), [("who", "A. Claimant"), ("note", ""), ("deviations", "")]
)
def test_signs_that_nobody_sees_are_refused(field, old, results):
    """One that turns the direction of writing: Doe reads as eoD, in a table and in a review."""
    claim = results / MS / "claim.toml"
    words = f'{field} = "{old}"', f'{field} = "Jane \u202eeoD"'
    claim.write_text(claim.read_text("utf-8").replace(*words), "utf-8")
    (line,) = said(results)
    assert f"{field}: Value error, invisible characters" in line
    assert line.endswith(f"{MS}/claim.toml")


def test_a_note_may_have_lines(results):
    claim = results / MS / "claim.toml"
    text = claim.read_text("utf-8").replace('note = ""', 'note = """one\ntwo"""')
    claim.write_text(text, "utf-8")
    assert said(results) == []


def test_nobody_is_no_name(results):
    challenge(results / MS, str(TODAY), "...")
    assert "expected a name" in said(results)[0]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-02-30", "is no day of any calendar"),
        ("0000-00-00", "is no day of any calendar"),
        (str(TODAY + timedelta(days=9)), "has not come yet"),
        ("2001-01-01", "is before"),
    ],
)
def test_a_day_that_cannot_be(date, expected, results):
    challenge(results / MS, date)
    (line,) = said(results)
    assert expected in line


def test_one_run_as_two_seeds_is_seen_and_counts_once(results):
    folder = challenge(results / MS, str(TODAY))

    body = json.loads((folder / "seed-0.json").read_text())
    cell = cell_of(results / MS)
    body |= {"seed": 1, "id": rows.digest([cell["id"], "run", 1, body["settings"]], 16)}
    (folder / "seed-1.json").write_bytes(schema.pack(body))
    shutil.copy(folder / "values-0.npz", folder / "values-1.npz")
    lines = said(results)
    assert any("of seed 0 @ " in line for line in lines)
    assert any("of the claim's seed 0" in line for line in lines)
    row = rowread.read_row(results, results / MS)
    assert judging.judge(row, row.reruns[0]) == "undecided"


def test_a_copy_is_no_rerun(results):
    folder = challenge(results / MS, str(TODAY))
    for seed in (0, 1):
        shutil.copy(results / MS / f"seed-{seed}.json", folder)
    lines = said(results)
    assert len(lines) == 2
    assert all("a copy, not a rerun" in line for line in lines)


@pytest.mark.parametrize("kept", ["seconds", "train_s"])
def test_a_copy_with_one_time_changed_is_no_rerun(kept, results):
    folder = challenge(results / MS, str(TODAY))
    for seed in (0, 1):
        time = json.loads((results / MS / f"seed-{seed}.json").read_text())[kept]
        more = {"seconds": 9.0} if kept == "train_s" else {}  # no less than it trained
        edit_run(folder, lambda body: body.update({kept: time, **more}), seed)  # noqa: B023
        if kept == "seconds":
            edit_run(folder, lambda body: body.update(train_s=0.001), seed)
    lines = said(results)
    assert len(lines) == 2
    assert all("a copy, not a rerun" in line for line in lines)


def test_one_time_of_one_run_may_be_the_same(results):
    folder = challenge(results / MS, str(TODAY))
    time = json.loads((results / MS / "seed-0.json").read_text())["train_s"]
    edit_run(folder, lambda body: body.update(train_s=time))
    assert said(results) == []


@pytest.mark.parametrize("changed", [False, True])
def test_runs_of_another_row_refute_nobody(changed, results):
    """Files of another method's row, handed in as a rerun that contradicts the claim."""
    folder = challenge(results / MS, str(TODAY))
    take_runs(results / MS, results / TRIPLET, {0: 0, 1: 1}, into=folder)
    for seed in (0, 1):
        edit_run(folder, slower, seed)
        if changed:
            digests = dict.fromkeys(("embeddings_sha256", "queries_sha256"), f"{seed}" * 64)
            edit_run(folder, lambda body: body.update(digests), seed)  # noqa: B023
    lines = said(results)
    assert {line.partition(" @ ")[2] for line in lines} == {
        f"{MS}/{folder.name}/seed-{seed}.json" for seed in (0, 1)
    }
    what = "the very scores" if changed else "the very embeddings"
    assert all(f"has {what} of {TRIPLET}/seed-" in line for line in lines)


def test_queries_of_reruns_are_compared_with_those_of_other_rows(results):
    challenge(results / MS, str(TODAY))
    (kept,) = (k for k in checking.checked(results, None) if k.row.place == MS)
    (rerun,) = kept.reruns
    assert rerun.row.place == f"{MS}/challenge-{TODAY}"
    for seed in (0, 1):
        assert (rerun.sampled[seed].found == kept.sampled[seed].found).all()


def test_one_run_decides_nothing(results):
    challenge(results / MS, str(TODAY), seeds=(0,))
    (line,) = said(results)
    assert "one run decides nothing" in line


def test_zeros_are_no_rankings(results):
    """A run that found nothing at all must say so for every query, and still counts as one."""
    folder = challenge(results / MS, str(TODAY))
    edit_run(folder, lambda b: b["concatenated"].update(dict.fromkeys(b["concatenated"], 0.0)))
    assert any("its queries give" in line for line in said(results))


# --- denial of service ----------------------------------------------------------------------------


def replaced(name, content):
    return lambda row: (row / name).write_bytes(content)


def text(name, old, new):
    def change(row):
        path = row / name
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return change


def pipe(name):
    def change(row):
        (row / name).unlink()
        os.mkfifo(row / name)

    return change


def folder(name):
    def change(row):
        (row / name).unlink()
        (row / name).mkdir()

    return change


def stale_without_folds(row):
    def older(body):
        body["identity"]["rules"].update(version=1, folds=0)
        body.update(protocol_version=1, protocol_hash="0" * 12)

    edit_cell(row, older)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def bomb(row):
    """70 MB of zeros are 70 kB in an archive, whose directory says how much they are."""
    put_values(row, zipped({"labels.npy": bytes(70 << 20)}))


def lying_shape(row):
    shape = b"{'descr': '<i4', 'fortran_order': False, 'shape': (17000000000,), }"
    head = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + shape.ljust(117) + b"\n"
    put_values(row, zipped({"labels.npy": head + bytes(10)}))


def objects(row):
    arrays = forging.arrays_of(row)
    put_values(row, forging.pack({**arrays, "labels": np.array([{"a": 1}], dtype=object)}))


LONG = b"9" * 400
DENIALS = {
    "a whole number of 400 digits": text("seed-0.json", b'"openings": 3', b'"openings": ' + LONG),
    "a fraction of 400 digits": text("seed-0.json", b'"seconds": ', b'"seconds": 0.' + LONG),
    "a setting of 400 digits": text("cell.json", b'"trial":', b'"trial":' + LONG),
    "1.7e308 seconds": run_change(seconds=1.7e308),
    "1.7e308 seconds in a trial": lambda row: rows.edit_trials(
        row, lambda trials: [t.update(seconds=1.7e308) for t in trials]
    ),
    "40 kB of a dotted key": replaced("claim.toml", b"a" + b".a" * 20_000 + b" = 1\n"),
    "8 kB of a dotted key": replaced("claim.toml", b"a" + b".a" * 4_000 + b" = 1\n"),
    "a key of many quoted parts": replaced("claim.toml", b'"a"' + b' . "b"' * 900 + b" = 1\n"),
    "a table of many parts": replaced("claim.toml", b"[a" + b".a" * 900 + b"]\n"),
    "a million faulty lines": replaced("trials.jsonl", b"{}\n" * 350_000),
    "170,000 faulty lines": replaced("trials.jsonl", b"{}\n" * 170_000),
    "brackets within brackets": replaced("cell.json", b"[" * 60_000),
    "tables within tables": replaced("cell.json", b'{"a":' * 10_000),
    "a stale row without folds": stale_without_folds,
    "a pipe for a cell": pipe("cell.json"),
    "a pipe for trials": pipe("trials.jsonl"),
    "a pipe for a claim": pipe("claim.toml"),
    "a pipe for values": pipe("values-0.npz"),
    "a folder for a cell": folder("cell.json"),
    "a folder for a run": folder("seed-0.json"),
    "a folder for values": folder("values-0.npz"),
    "a folder for trials": folder("trials.jsonl"),
    "arrays that unpack to too much": bomb,
    "an array of a shape that lies": lying_shape,
    "an array of objects": objects,
    "no archive": lambda row: put_values(row, b"PK\x03\x04" + bytes(50)),
    "a README that is no UTF-8": lambda row: (row.parents[2] / "README.md").write_bytes(b"\xff"),
    "a README that is a folder": lambda row: folder("README.md")(row.parents[2]),
    "a README that is a pipe": lambda row: pipe("README.md")(row.parents[2]),
    "a leaderboard that is a pipe": lambda row: pipe("leaderboard.csv")(row.parents[2]),
}


@pytest.mark.parametrize("deny", DENIALS.values(), ids=DENIALS)
def test_nothing_stops_the_check_for_all(deny, results, capsys):
    """One row can spoil itself: in seconds, in a bounded number of lines, without a traceback."""
    deny(results / MS)
    started = time.perf_counter()
    code, printed = rows.verify(results, capsys)
    assert time.perf_counter() - started < 5
    assert code == 2
    of_files = {line.rpartition(" @ ")[2] for line in printed}
    assert len(printed) <= (SHOWN + 1) * len(of_files)
    assert len(printed) <= 30, printed
    assert all(len(line) < 1000 for line in printed)
    assert not any(f"{TRIPLET}/seed" in line for line in printed), "others are not concerned"


def test_a_note_may_have_dots(results):
    claim = results / MS / "claim.toml"
    note = "v1.2.3 of 10.0.0.1; see a.b.c. Then. More. Of. It. In. Words. " * 20
    claim.write_text(claim.read_text().replace('note = ""', f'note = "{note}"'))
    assert said(results) == []


def test_what_is_beyond_this_check_is_said(results, capsys):
    leaderboard.write(results)
    assert main(["verify", str(results)]) == 0
    assert "cannot be told from measured ones" in capsys.readouterr().err
