"""Print how honest intervals and verdicts are on simulated studies; run it by hand, ten minutes.

    python tests/measure_statistics.py [STUDIES]

A share is printed with its Monte Carlo standard error and what it must be. Ends with 1 if a bound
is missed by more than two standard errors. `protocols/DECISIONS.md` holds what it printed.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import simulate

METHODS, SEEDS = (2, 5, 15), tuple(range(3, 13))
BOUND = 0.06
missed: list[str] = []


def line(what: str, share: float, count: int, low: float, high: float, note: str = "") -> None:
    """Print a share beside its bounds, and remember whether it kept them."""
    slack = simulate.error(share, count)
    kept = low - 2 * slack <= share <= high + 2 * slack
    bounds = note or (f"{low:.1%} to {high:.1%}" if low else f"at most {high:.1%}")
    print(f"{what:<66} {share:6.1%} ± {slack:.1%}   {bounds}{'' if kept else '   MISSED'}")
    if not kept:
        missed.append(what)


def grid(title: str, cells, count: int, high: float | None) -> None:
    """Print shares in per cent: a row for each name, a column for each number of seeds.

    Args:
        title: what is counted.
        cells: name of a row, and what gives its share at a number of seeds.
        count: simulated studies of a share.
        high: what no share may exceed; None if they are only shown.
    """
    print(f"\n{title}")
    print(f"{'seeds':<52}" + "".join(f"{n:>6}" for n in SEEDS))
    for name, share_at in cells:
        shares = [share_at(n) for n in SEEDS]
        print(f"{name:<52}" + "".join(f"{100 * s:6.1f}" for s in shares), flush=True)
        for n, share in zip(SEEDS, shares, strict=True):
            if high is not None and share > high + 2 * simulate.error(high, count):
                missed.append(f"{title}: {name}, {n} seeds: {share:.1%}")


def errors(count: int, rng: np.random.Generator) -> None:
    """Print false verdicts of all cells, then of those where the rule promises less."""
    for spreads, high in ((simulate.SPREADS, BOUND), (simulate.BEYOND, None)):
        met: list[tuple[str, str, simulate.Errors]] = []

        def cell(spread, noise, methods, met=met, spreads=spreads):
            def share(n: int) -> float:
                found = simulate.false_verdicts(
                    methods, n, count, rng, noise=noise, spread=spreads[spread]
                )
                met.append((spread, noise, found))
                return found.verdict

            return f"{spread}, {noise}, {methods} methods", share

        cells = [cell(*names) for names in product(spreads, simulate.NOISES, METHODS)]
        must = f"at most {BOUND:.0%}" if high else "beyond what the rule promises"
        grid(
            f"families of equal methods with a false verdict, per cent: {must}", cells, count, high
        )
        for spread in spreads:
            worst = max(found.unmarked_t for name, _, found in met if name == spread)
            shares = [f.marked for name, noise, f in met if (name, noise) == (spread, "normal")]
            print(
                f"  {spread}: {min(shares):.0%} to {max(shares):.0%} of rows marked under normal "
                f"noise; Student's t without the mark up to {worst:.1%}"
            )


def collapses(count: int, rng: np.random.Generator) -> None:
    """Print false verdicts where runs of the methods rarely collapse: no test sees it coming."""

    def cell(share, methods):
        def at(n: int) -> float:
            return simulate.false_of_collapses(methods, n, share, count, rng)

        return f"one run in {1 / share:g} ten points lower, {methods} methods", at

    cells = [cell(*both) for both in product((0.05, 0.1, 0.2), METHODS)]
    grid("the same where runs rarely collapse: beyond what the rule promises", cells, count, None)


def equivalence(count: int, rng: np.random.Generator) -> None:
    """Print how often methods at the margin's edge are called equivalent."""

    def cell(spread, noise, methods):
        def share(n: int) -> float:
            small = simulate.SPREADS[spread].scaled(1 / 6)
            return simulate.false_equivalence(methods, n, count, rng, noise=noise, spread=small)

        return f"{spread}, {noise}, {methods} methods", share

    cells = [cell(*names) for names in product(simulate.SPREADS, simulate.NOISES, METHODS)]
    grid(
        "families at the edge of the margin with a false 'equivalent', per cent (spreads a sixth)",
        cells,
        count,
        BOUND,
    )


def power(count: int, rng: np.random.Generator) -> None:
    """Print how often a true difference is called."""
    print("\n+1 point, sd of differences 0.55, all others equal: called better (t and Holm alone)")
    print(f"{'seeds':<16}" + "".join(f"{n:>12}" for n in SEEDS))
    for methods in METHODS:
        shares = [simulate.found(methods, n, 1.0, 0.55, count, rng) for n in SEEDS]
        row = "".join(f"{100 * a:6.1f} ({100 * b:3.0f})" for a, b in shares)
        print(f"{f'family of {methods - 1}':<16}" + row)
    print("\nplan --detect 1 with sd 0.55: seeds asked for, and the chance they give in truth")
    for seeds in (3, 5, 10):
        asked, share = simulate.planned(seeds, 1.0, 0.55, 60, rng)
        what = f"pilot of {seeds} seeds: {asked:.1f} seeds on average"
        line(what, share, 60, 0.75, 1, "80 % or more where the pilot leaves much open")


def families(count: int, rng: np.random.Generator) -> None:
    """Print what sign flips, looking again and again, and intervals get right."""
    print("\nsign flips, the check beside the verdict: families with a false one at 10 seeds")
    for spread, noise in product(("alike", "quiet baseline"), simulate.NOISES):
        few = count // 10
        share = simulate.sign_flip_false(15, 10, few, rng, noise, simulate.SPREADS[spread])
        line(f"{spread}, {noise}, 15 methods", share, few, 0, 1, "not used")
    print("\nlooking at 6 seeds, then 7, and so on to 14, until something is called")
    for methods in METHODS:
        once, ever = simulate.looked_at(methods, 6, 14, count, rng)
        line(f"{methods} methods, looked at once, at 14 seeds", once, count, 0, 0.05)
        line(f"{methods} methods, looked at nine times", ever, count, 0, 1, "not clean")
    print("\n95 % intervals that hold the truth: of a mean, of a difference, of all of a family")
    for (name, spread), noise, n in product(simulate.SPREADS.items(), simulate.NOISES, (3, 5, 10)):
        held = simulate.interval_coverage(5, n, count // 4, rng, noise=noise, spread=spread)
        print(f"{f'{name}, {noise}, {n} seeds':<66}" + "".join(f"{100 * h:7.1f}" for h in held))


def others(cells: int, rng: np.random.Generator) -> None:
    """Print what is not about verdicts: runs as units, classes, datasets, searches."""
    studies = cells // 5
    print("\nwhy a run is the unit: equal methods, 0 outside the interval over seeds x folds")
    for seeds in (3, 5, 10):
        share = simulate.fold_level_false(seeds, 4, cells, rng)
        line(f"{seeds} seeds x 4 folds as so many pairs", share, cells, 0, 1, "not used")
    print("\n95 % intervals over test classes hold the mean over all classes")
    for classes in (20, 50, 100, 500):
        share = simulate.class_coverage(classes, studies, rng)
        line(f"class bootstrap, {classes} classes", share, studies, 0.93, 0.97)
    share = simulate.query_coverage(100, studies, rng)
    line("queries taken for independent, 100 classes", share, studies, 0, 1, "not used")
    print(
        "\n95 % intervals over datasets: t of the mean, resampled seeds of the interquartile mean"
    )
    for datasets, n in ((2, 3), (4, 3), (4, 5), (4, 10), (8, 10)):
        found = simulate.across_coverage([0.01] * datasets, n, studies // 4, rng)
        for name, share in zip(("mean", "interquartile mean"), found, strict=True):
            line(f"{name}, {datasets} datasets x {n} seeds", share, studies // 4, 0.93, 0.98)
    for spreads, n in (((5, 1), 3), ((3.5, 12, 5, 3), 3), ((3.5, 12, 5, 3), 10)):
        found = simulate.across_coverage([sd / 1000 for sd in spreads], n, studies // 4, rng)
        what = f"{' : '.join(map(str, spreads))} spread, {n} seeds"
        line(f"mean, {what}", found[0], studies // 4, 0.93, 0.98)
        line(f"interquartile mean, {what}", found[1], studies // 4, 0, 1, "not held")
    print("\nrepeated searches: variance found of searches (truth 4) and seeds (truth 1)")
    for searches, n in ((3, 3), (5, 5), (10, 5)):
        search, seed, share = simulate.split_means(searches, n, studies, rng)
        print(f"{searches} searches x {n} seeds: {search:.2f} and {seed:.2f}")
        line(f"t-interval of the mean over {searches} searches", share, studies, 0.94, 0.96)


def main() -> int:
    """Print all lines; return 1 if a bound was missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rng = np.random.default_rng(2024)
    print(f"{count} simulated studies a number; standard error 0.2 at 6 per cent of 20000")
    errors(count, rng)
    collapses(count, rng)
    equivalence(count // 4, rng)
    power(count, rng)
    families(count, rng)
    print(f"\n95 % t-intervals hold the truth, {count} simulated cells, normal noise")
    for n in (3, 5, 10):
        line(f"t-interval of {n} seeds", simulate.t_coverage(n, count, rng), count, 0.94, 0.96)
    others(count, rng)
    print(f"\n{len(missed)} bound(s) missed")
    for what in missed:
        print(f"  {what}")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
