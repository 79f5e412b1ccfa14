"""Rows out of line are listed with a statistic; ordinary ones are not."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmark.submissions import standout

SEEDS = 10


def row(name, values, speed=1000.0, device="cpu, 1 thread(s)", easier=1.3, best=1.1):
    """A row; its validation is so many times as easy, its search's best trial so lucky."""
    cell = SimpleNamespace(
        is_reference=False,
        protocol_hash="0",
        dataset="emoji",
        trunk="tiny",
        recipe="adam",
        method=name,
        made_of=SimpleNamespace(rules=SimpleNamespace(baseline="row-0")),
        chosen=SimpleNamespace(value=best * easier * 0.8 * float(np.mean(values))),
    )
    runs = {
        seed: SimpleNamespace(
            status="done",
            counts={"images_trained": 32_000},
            train_s=32_000 / speed,
            environment=SimpleNamespace(device=device),
            concatenated=SimpleNamespace(map_at_r=value),
            separated=SimpleNamespace(map_at_r=0.8 * value),
            validation=SimpleNamespace(map_at_r=easier * 0.8 * value),
        )
        for seed, value in enumerate(values)
    }
    return SimpleNamespace(place=name, cell=cell, runs=runs, untrained=False)


def usual(rng, count=8, mean=0.2):
    found = []
    for number in range(count):
        level = mean + 0.01 * rng.standard_normal()
        spread = 0.004 * rng.standard_normal(SEEDS)
        speed = 1000 * np.exp(0.1 * rng.standard_normal())
        found.append(row(f"row-{number}", level + spread, speed))
    return found


def test_ordinary_rows_are_rarely_listed():
    rng = np.random.default_rng(1)
    listed = sum(len(standout.looks(usual(rng))) for _ in range(200))
    assert listed <= 0.02 * 200 * 8 * 3


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (lambda rng: row("odd", 0.2 + 1e-5 * rng.standard_normal(SEEDS)), "spread over 10 seeds"),
        (lambda rng: row("odd", 0.2 + 0.1 * rng.standard_normal(SEEDS)), "spread over 10 seeds"),
        (lambda rng: row("odd", 0.5 + 0.004 * rng.standard_normal(SEEDS)), "MAP@R 5"),
        (lambda rng: row("odd", 0.2 + 0.004 * rng.standard_normal(SEEDS), 90_000), "90000 images"),
    ],
)
def test_a_row_out_of_line_is_listed_with_its_statistic(odd, said):
    rng = np.random.default_rng(2)
    lines = [line for line in standout.looks([*usual(rng), odd(rng)]) if line.startswith("odd")]
    (line,) = lines
    assert said in line
    assert "deviations" in line or "chi-squared, p" in line
    assert "p 0.0" not in line


def test_a_slow_row_is_nothing_odd():
    """It ran beside others, or its method costs more."""
    rng = np.random.default_rng(5)
    slow = row("odd", 0.2 + 0.004 * rng.standard_normal(SEEDS), 100)
    assert not any("images a second" in line for line in standout.looks([*usual(rng), slow]))


def test_too_few_rows_show_nothing():
    rng = np.random.default_rng(3)
    rows = [*usual(rng, count=standout.MIN_OTHERS - 1), row("odd", [0.9] * SEEDS)]
    assert standout.looks(rows) == []


def test_another_device_may_be_faster():
    rng = np.random.default_rng(4)
    fast = row("gpu", 0.2 + 0.004 * rng.standard_normal(SEEDS), 90_000, device="NVIDIA H100")
    assert not any("images a second" in line for line in standout.looks([*usual(rng), fast]))


def test_seeds_in_the_baselines_order_are_listed():
    """Ten honest runs handed in under other seeds: sorted as the baseline's are."""
    rng = np.random.default_rng(6)
    rows = usual(rng)
    base = [rows[0].runs[seed].concatenated.map_at_r for seed in range(SEEDS)]
    own = np.sort(0.2 + 0.004 * rng.standard_normal(SEEDS))
    sorted_in = own[np.argsort(np.argsort(base))]
    assert stats.spearmanr(base, sorted_in).statistic == pytest.approx(1.0)
    (line,) = [x for x in standout.looks([*rows, row("odd", sorted_in)]) if x.startswith("odd")]
    assert "over 10 seeds its runs rank as those of row-0 (Spearman's rho 1.000" in line


def test_rank_correlations_are_those_of_scipy_ties_too():
    base = np.array([0.20, 0.21, 0.21, 0.22, 0.23, 0.24, 0.25, 0.25, 0.26, 0.27])
    own = base + np.array([0, 0.01, 0, 0, 0, 0, 0, 0, 0, 0])
    rows = [row("row-0", base), *(row(f"row-{n}", 0.5 - base) for n in range(1, 4))]
    (line,) = [x for x in standout.looks([*rows, row("odd", own)]) if "its runs rank" in x]
    rho, p = stats.spearmanr(base, own, alternative="greater")
    assert line.startswith("odd: over 10 seeds")
    assert f"(Spearman's rho {rho:.3f}, p {4 * p:.1e} over 4 rows)" in line


def test_seeds_that_share_their_start_are_rarely_listed():
    """Half of the variance over seeds is the seed's own: a correlation of 0.5."""
    rng, listed = np.random.default_rng(8), 0
    for _ in range(200):
        shared = rng.standard_normal(SEEDS)
        own = rng.standard_normal((9, SEEDS))
        rows = [
            row(f"row-{n}", 0.2 + 0.004 * (shared + values) / np.sqrt(2))
            for n, values in enumerate(own)
        ]
        listed += sum("seeds its runs rank" in line for line in standout.looks(rows))
    assert listed <= 0.02 * 200 * 8


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"easier": 5.0, "best": 1.0}, ["validation to separated test scores is 5.00"]),
        ({"best": 4.0}, ["the search's best value to the runs' validation is 4.00"]),
        ({"easier": 1.45, "best": 1.3}, []),
    ],
)
def test_validation_scores_of_nothing_that_was_tested_are_listed(odd, said):
    rng = np.random.default_rng(9)
    values = 0.2 + 0.004 * rng.standard_normal(SEEDS)
    lines = standout.looks([*usual(rng), row("odd", values, **odd)])
    found = [line for line in lines if line.startswith("odd")]
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
