"""How long ``verify`` takes: made rows of many methods and recipes, checked as a pull request is.

    python -m tests.measure_verify --rows 200 --protocol emoji

Rows are drawn, not trained: rankings at random, everything else as ``submit`` writes it. They are
laid into a clone of this checkout, whose current commit they name.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmark.study import selection
from benchmark.submissions import leaderboard, schema, values
from protocols.discovery import Registry, load
from protocols.protocol import Protocol, digest
from protocols.space import Settings, Space, defaults, described, size

ROOT = Path(__file__).parent.parent
CLASSES, IMAGES, DEPTH = 530, 7, 8  # about those of emoji's test half
OLD = ("results/quick", "results/finetune")
CLAIM = 'who = "a program"\nhardware = "none"\ndeviations = ""\npredecessor = ""\nnote = ""\n'


def ranked(rng: np.random.Generator, skill: float, classes: int) -> dict[str, Any]:
    """Return every metric of Q queries from hits drawn at random, as a worker stores them."""
    queries, n = classes * IMAGES, IMAGES - 1
    ranks = np.arange(1, 13)
    hits = rng.random((queries, len(ranks))) < skill / np.sqrt(ranks)
    hits &= hits.cumsum(axis=1) <= n
    precision = hits.cumsum(axis=1) / ranks * hits
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    return {
        "precision_at_1": hits[:, 0].astype(float),
        "r_precision": hits[:, :n].sum(axis=1) / n,
        "map_at_r": precision[:, :n].sum(axis=1) / n,
        "map_at_10": precision[:, :10].sum(axis=1) / n,
        "first_hit": np.where(first > DEPTH, 0, first),
    }


def run_of(
    rng: np.random.Generator, cell: dict[str, Any], seed: int, folds: int, classes: int
) -> dict[str, Any]:
    """Return a run's fields without checksums, and its packed values under ``packed``."""
    skill = rng.uniform(0.3, 0.5)
    joined, *apart = (ranked(rng, skill, classes) for _ in range(folds + 1))
    labels = np.repeat(np.arange(classes), IMAGES).astype("i4")
    arrays = {"labels": labels, "query": np.arange(len(labels), dtype="i4")}
    for name, found in joined.items():
        kind = "i4" if name == "first_hit" else "f4"
        arrays[f"concatenated_{name}"] = found.astype(kind)
        arrays[f"separated_{name}"] = np.stack([f[name] for f in apart]).astype(kind)
    scores = [{m: float(f[m].mean()) for m in schema.Scores.model_fields} for f in (joined, *apart)]
    first = joined["first_hit"]
    recalls = {f"recall_at_{k}": float(((first > 0) & (first <= k)).mean()) for k in (1, 2, 4, 8)}
    settings, seconds = cell["chosen"]["settings"], round(float(rng.uniform(10, 12)), 3)
    return {
        "cell": cell["id"],
        "id": digest([cell["id"], "run", seed, settings], 16),
        "seed": seed,
        "settings": settings,
        "concatenated": {**scores[0], **recalls, "map_at_10": float(joined["map_at_10"].mean())},
        "folds": scores[1:],
        "separated": {m: fmean(s[m] for s in scores[1:]) for m in scores[0]},
        "validation": scores[1],
        "seconds": seconds,
        "train_s": seconds - 1,
        "packed": values.pack(arrays),
    }


def files_of(
    protocol: Protocol,
    method: str,
    recipe: str,
    shared: dict[str, Any],
    dataset: str = "emoji",
    classes: int = CLASSES,
) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of a made row's files."""
    rng = np.random.default_rng([sum(word.encode()) for word in (method, recipe, dataset)])
    registry = Registry()
    identity = {
        "rules": protocol.rules(),
        "dataset": dataset,
        "dataset_digest": "d" * 64,
        "trunk": protocol.trunk,
        "weights": "none",
        "trunk_code": registry.code_digest("trunk", protocol.trunk),
        "recipe": registry.load("recipe", recipe).values(),
        "method": method,
        "method_code": registry.code_digest("method", method),
    }
    space: Space = registry.load("method", method).space(dataset, protocol.search.bounds)
    cell = {"id": schema.cell_id(identity), "identity": identity}
    trials = list(made_trials(rng, cell["id"], space, protocol)) if space else []
    best = max(trials, key=lambda t: (t["value"], -t["number"]), default=None)
    cell |= {
        "schema": schema.SCHEMA,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "protocol_hash": protocol.hash(),
        "seeds": protocol.seeds,
        "dataset": dataset,
        "trunk": protocol.trunk,
        "recipe": recipe,
        "method": method,
        "row": method,
        "space": described(space),
        "chosen": {
            "rule": selection.BEST_TRIAL if best else selection.NO_SEARCH,
            "trial": best["number"] if best else None,
            "settings": best["settings"] if best else {},
            "value": best["value"] if best else None,
        },
    }
    packed = schema.pack_trials(trials)
    cell["trials_sha256"] = hashlib.sha256(packed).hexdigest()
    runs = [run_of(rng, cell, seed, protocol.folds, classes) for seed in range(protocol.seeds)]
    spent = sum(own["seconds"] for own in (*trials, *runs))
    cell["took"] = {"seconds": spent, "cpu_s": spent * float(rng.uniform(0.5, 0.9))}
    yield "cell.json", schema.pack(cell)
    yield "trials.jsonl", packed
    yield "claim.toml", CLAIM.encode()
    for run in runs:
        seed, content = run["seed"], run.pop("packed")
        run |= {**shared, "values_sha256": hashlib.sha256(content).hexdigest()}
        run |= {name: rng.bytes(32).hex() for name in ("embeddings_sha256", "queries_sha256")}
        yield f"values-{seed}.npz", content
        yield f"seed-{seed}.json", schema.pack(run)


def made_trials(
    rng: np.random.Generator, cell: str, space: Space, protocol: Protocol
) -> Iterator[dict[str, Any]]:
    """Yield the trials of a search that drew its settings at random, none of them twice."""
    tried: list[Settings] = []
    for number in range(min(protocol.search.trials, int(size(space)))):
        settings = defaults(space)
        while settings in tried:
            settings = {name: p.at(float(rng.random())) for name, p in space.items()}
        tried.append(settings)
        folds = rng.uniform(0.1, 0.3, protocol.folds).tolist()
        yield {
            "id": digest([cell, "trial", number, settings], 16),
            "number": number,
            "status": "done",
            "reason": None,
            "settings": settings,
            "folds": folds,
            "value": fmean(folds),
            "seconds": 10.0,
        }


def shared_fields(protocol: Protocol, commit: str, classes: int = CLASSES) -> dict[str, Any]:
    """Return what every made run says alike."""
    steps, width = protocol.pace.max_steps, protocol.embedding_size * protocol.folds
    named = ("torch", "torchvision", "pytorch-metric-learning", "optuna", "numpy", "timm")
    environment = {name: "1.0" for name in named}
    version = f"{sys.version_info.major}.{sys.version_info.minor}.0"
    environment |= {"python": version, "system": "Linux", "device": "cpu, 1 thread(s)"}
    return {
        "schema": schema.SCHEMA,
        "status": "done",
        "reason": None,
        "best_steps": [steps] * protocol.folds,
        "excluded": 0,
        "ties": 0,
        "embeddings_shape": [classes * IMAGES, width],
        "openings": protocol.folds + 1,
        "counts": {
            "images_trained": steps * protocol.batch_size * protocol.folds,
            "parameters_trained": 1000,
        },
        "peak_memory_mb": 100,
        "environment": {**environment, "commit": commit, "dirty": False},
    }


def lay_out(root: Path, count: int, protocol: Protocol) -> Path:
    """Write rows of ``protocol`` into a fresh clone below ``root``; return its folder results."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "rm", "-rq", *OLD], check=True)
    subprocess.run([*git, "commit", "-qm", "rows removed"], check=True)
    head = [*git, "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    registry, results = Registry(), root / "results"
    default = (protocol.trunk, protocol.recipe)
    methods = [m for m in registry.names("method") if m not in ("untrained", "pretrained")]
    wanted = [(m, r) for r in registry.names("recipe") for m in methods][:count]
    shared = shared_fields(protocol, commit)
    for method, recipe in wanted:
        folder = schema.folder_name(method, protocol.trunk, recipe, default)
        target = results / schema.place_of(protocol.name, "emoji", folder)
        target.mkdir(parents=True)
        for name, content in files_of(protocol, method, recipe, shared):
            (target / name).write_bytes(content)
    leaderboard.write(results)
    return results


def main() -> None:
    """Make rows, check them three times, print sizes and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--protocol", default="quick")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = lay_out(Path(folder) / "clone", args.rows, load("protocol", args.protocol))
        files = list(results.rglob("values-*.npz"))
        size = fmean(path.stat().st_size for path in files)
        print(f"{len(files)} runs, {size / 1000:.1f} kB of values each")
        for _ in range(3):
            started = time.perf_counter()
            command = [sys.executable, "-m", "benchmark", "verify", str(results)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            print(f"{time.perf_counter() - started:.2f} s, exit {done.returncode}")
        print(done.stdout[-2000:], done.stderr[-2000:])


if __name__ == "__main__":
    main()
