"""What any ranking gives is accepted, and what none gives is seen: against slow loops."""

import io
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.submissions import figures, recompute, values
from benchmark.submissions.schema import Scores
from protocols.metrics import METRICS

RECALLS = (1, 2, 4, 8)


def slow(labels, query, order):
    """Return the metrics of every query by the definitions, one rank after another.

    ``order`` ranks all images for each query; the query itself, or all queries where there is a
    gallery, are skipped.
    """
    own = len(query) == len(labels)
    left_out = set() if own else set(query.tolist())
    found = {name: [] for name in (*METRICS, "map_at_10", "first_hit")}
    for position, ranking in zip(query.tolist(), order, strict=True):
        hits = [
            labels[other] == labels[position]
            for other in ranking.tolist()
            if other != position and other not in left_out
        ]
        n = sum(hits)
        precisions = [sum(hits[: i + 1]) / (i + 1) if hits[i] else 0.0 for i in range(len(hits))]
        nothing = float("nan")
        found["precision_at_1"].append(float(hits[0]) if n else nothing)
        found["r_precision"].append(sum(hits[:n]) / n if n else nothing)
        found["map_at_r"].append(sum(precisions[:n]) / n if n else nothing)
        found["map_at_10"].append(sum(precisions[:10]) / min(n, 10) if n else nothing)
        first = hits.index(True) + 1 if n else 0
        found["first_hit"].append(first if first <= max(RECALLS) else 0)
    return {name: np.array(rows) for name, rows in found.items()}


def made(seed, *, gallery=False, sizes=(1, 2, 3, 6, 14), folds=2):
    """Return a run and its values from random rankings of some skill."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    query = np.sort(rng.permutation(len(labels))[: len(labels) // 3]) if gallery else None
    query = np.arange(len(labels)) if query is None else query
    models = []
    for _ in range(folds + 1):
        near = labels[query][:, None] == labels
        order = np.argsort(rng.random(near.shape) - rng.random() * near, axis=1)
        models.append(slow(labels, query, order))
    arrays = {"labels": labels.astype("i4"), "query": query.astype("i4")}
    for name in models[0]:
        kind = "i4" if name == "first_hit" else "f4"
        arrays[f"concatenated_{name}"] = models[0][name].astype(kind)
        arrays[f"separated_{name}"] = np.stack([m[name] for m in models[1:]]).astype(kind)
    return run_of(models, len(labels)), arrays


def run_of(models, images):
    counted = ~np.isnan(models[0]["map_at_r"])
    means = [{m: float(f[m][counted].mean()) for m in METRICS} for f in models]
    first = models[0]["first_hit"][counted]
    recalls = {f"recall_at_{k}": float(((first > 0) & (first <= k)).mean()) for k in RECALLS}
    ten = float(models[0]["map_at_10"][counted].mean())
    joined, *apart = (Scores(**mean) for mean in means)
    separated = {m: np.mean([getattr(s, m) for s in apart]) for m in METRICS}
    return SimpleNamespace(
        concatenated=Scores(**means[0], **recalls, map_at_10=ten),
        folds=apart,
        separated=Scores(**separated),
        validation=joined,
        excluded=int((~counted).sum()),
        embeddings_shape=[images, 8],
        ties=0,
        status="done",
        reason=None,
        embeddings_sha256="a" * 64,
        queries_sha256="b" * 64,
        best_steps=[1] * len(apart),
        openings=len(apart) + 1,
    )


def of(arrays):
    return values.unpack(values.pack(arrays))


def cell(folds=2):
    return SimpleNamespace(rules={"folds": folds})


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), gallery=st.booleans())
def test_any_ranking_is_accepted(seed, gallery):
    run, arrays = made(seed, gallery=gallery)
    found = of(arrays)
    assert list(recompute.faults(run, found)) == []
    told = [t for t in figures.faults(run, cell(), len(found.query)) if "not the mean" not in t]
    assert told == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(METRICS), data=st.data())
def test_a_value_of_no_ranking_is_seen(seed, name, data):
    """One query's value moved by more than rounding, the means moved with it."""
    run, arrays = made(seed)
    counted = np.flatnonzero(~np.isnan(arrays["concatenated_map_at_r"]))
    at = data.draw(st.sampled_from(counted.tolist()))
    by = data.draw(st.floats(1e-4, 0.3)) * (-1 if arrays[f"concatenated_{name}"][at] > 0.5 else 1)
    arrays[f"concatenated_{name}"][at] += by
    moved = getattr(run.concatenated, name) + by / len(counted)
    run.concatenated = run.concatenated.model_copy(update={name: moved})
    small = recompute.relevant(of(arrays))[at] <= recompute.LISTED
    if small or name != "map_at_r":
        assert list(recompute.faults(run, of(arrays)))


def test_attainable_values_are_those_of_all_rankings():
    """Listed and bounded: the least and the largest MAP@R are those of a full enumeration."""
    for n in (1, 2, 5, 11):
        by_kind = {}
        for hits in itertools.product((0, 1), repeat=n):
            precisions = [sum(hits[: i + 1]) / (i + 1) * hits[i] for i in range(n)]
            by_kind.setdefault((sum(hits), hits[0]), []).append(sum(precisions) / n)
        for (k, p1), expected in by_kind.items():
            low, high = recompute._ends(
                np.array([[float(k)]]), np.array([[float(p1)]]), np.array([n])
            )
            assert low[0, 0] == pytest.approx(min(expected), abs=1e-12)
            assert high[0, 0] == pytest.approx(max(expected), abs=1e-12)
            if n <= recompute.LISTED:
                tried = np.linspace(0, 1, 2000)
                asked = np.array([*expected, *tried])
                kind = np.full(asked.shape, float(k)), np.full(asked.shape, float(p1))
                near = np.abs(asked[:, None] - np.unique(expected)).min(axis=1) <= recompute.CLOSE
                good = recompute._listed(asked, *kind, np.full(len(asked), n))
                assert good.tolist() == near.tolist()


def test_what_is_left_out_and_who_is_asked_follow_from_the_labels():
    run, arrays = made(3, gallery=True)
    found = of(arrays)
    gallery = np.setdiff1d(np.arange(len(found.labels)), found.query)
    for position, n in zip(found.query, recompute.relevant(found), strict=True):
        assert n == (found.labels[gallery] == found.labels[position]).sum()
    run.excluded += 1
    assert any("queries excluded" in line for line in recompute.faults(run, found))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("query"), "too few or too many arrays"),
        (lambda a: a.update(labels=a["labels"].astype("i8")), "expected int32"),
        (lambda a: a.update(query=a["query"][::-1].copy()), "expected ascending positions"),
        (lambda a: a.update(query=a["query"] + 5), "expected ascending positions"),
        (lambda a: a.update(labels=a["labels"] - 1), "a class below 0"),
        (lambda a: a["separated_map_at_r"].fill(2), "expected fractions"),
        (lambda a: a.update(separated_map_at_r=a["separated_map_at_r"][:1]), "expected (2,"),
        (lambda a: a.update(extra=a["query"]), "names once"),
    ],
)
def test_other_files_are_no_values(change, said):
    _, arrays = made(1)
    arrays = {name: arrays[name].copy() for name in values.names(reported=True)}
    change(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with pytest.raises(values.InvalidInputError, match=said.replace("(", r"\(")):
        values.unpack(buffer.getvalue())
