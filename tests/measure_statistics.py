"""Print how honest intervals and verdicts are on simulated studies; run it by hand, a minute.

    python tests/measure_statistics.py [CELLS]

Every line: what, the share found with its Monte Carlo standard error, what it must be. Ends with 1
if a bound is missed by more than two standard errors.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import simulate

missed: list[str] = []


def line(what: str, share: float, count: int, low: float, high: float, note: str = "") -> None:
    """Print a share beside its bounds, and remember whether it kept them."""
    slack = simulate.error(share, count)
    kept = low - 2 * slack <= share <= high + 2 * slack
    bounds = note or (f"{low:.1%} to {high:.1%}" if low else f"at most {high:.1%}")
    print(f"{what:<66} {share:6.1%} ± {slack:.1%}   {bounds}{'' if kept else '   MISSED'}")
    if not kept:
        missed.append(what)


def main() -> int:
    """Print all lines; return 1 if a bound was missed."""
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    studies = cells // 5
    rng = np.random.default_rng(2024)
    print(f"95 % intervals hold the truth, {cells} simulated cells")
    for n in (3, 5, 10):
        line(f"t-interval of {n} seeds", simulate.t_coverage(n, cells, rng), cells, 0.94, 0.96)
    print("\nequal methods, shared seeds, Holm: studies with any verdict better or worse")
    for methods, n in ((2, 3), (2, 6), (2, 10), (5, 6), (5, 10), (10, 10), (15, 12)):
        for skewed in (False, True):
            share = simulate.false_verdicts(methods, n, studies, rng, skewed=skewed)
            what = f"{methods} methods, {n} seeds{', exponential noise' if skewed else ''}"
            # Sign flips are exact for symmetric differences; skewed noise of unlike spread is not.
            line(what, share, studies, 0.0, 0.06 if skewed else 0.05)
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
    print("\nstratified bootstrap over datasets, expanded percentiles: mean, interquartile mean")
    for datasets, n in ((2, 3), (4, 3), (4, 5), (4, 10), (8, 10)):
        for name, share in zip(
            ("mean", "interquartile mean"),
            simulate.across_coverage(datasets, n, studies // 4, rng),
            strict=True,
        ):
            line(f"{name}, {datasets} datasets x {n} seeds", share, studies // 4, 0.93, 0.98)
    print("\nrepeated searches: variance found of searches (truth 4) and seeds (truth 1)")
    for searches, n in ((3, 3), (5, 5), (10, 5)):
        search, seed, share = simulate.split_means(searches, n, studies, rng)
        print(f"{searches} searches x {n} seeds: {search:.2f} and {seed:.2f}")
        line(f"t-interval of the mean over {searches} searches", share, studies, 0.94, 0.96)
    print("\nthe planner's pairs: how often the interval finds the difference")
    for effect in (0.5, 0.8, 1.0):
        n, share = simulate.detected(effect, cells, rng)
        line(f"{effect:g} sd with {n} pairs", share, cells, 0.80, 0.83)
    print(f"\n{len(missed)} bound(s) missed")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
