"""A method against itself on emoji: run by hand; prints its numbers, 1 on a false verdict.

    python tests/measure_aa.py [OUT]

One method is registered two more times, from files of their own. `ms_again` is the method under
another name: seeds derive from names without the method's, so its runs must be `ms`'s bit for bit
and the difference exactly 0, which proves the pairing and nothing else. `ms_twin` takes one number
from torch's generator before it is built, so its head starts elsewhere while trunk and batches
stay paired, as between any two methods: that is the noise a comparison has to live with. All
three train with the authors' defaults (`--trials 1`), for two searches would choose two settings,
and then the names would no longer stand for one method. Six seeds, the fewest at which the sign
flips can check the verdict. With OUT the study is kept there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = '''"""{summary}"""

import torch

from protocols.methods.ms import MultiSimilarity


class {name}(MultiSimilarity):
    """{summary}"""
'''
DRAW = """
    def __init__(self, spec, **settings):
        torch.rand(1)
        super().__init__(spec, **settings)
"""
PLUGINS = {
    "ms_again": HEAD.format(name="Again", summary="Multi-similarity under another name."),
    "ms_twin": HEAD.format(name="Twin", summary="Multi-similarity from another start.") + DRAW,
}


def study(out: Path) -> None:
    """Run the three rows: quick's emoji, the defaults, six seeds."""
    out.mkdir(parents=True, exist_ok=True)
    words = ["--protocol", "quick", "--trials", "1", "--seeds", "6", "--out", str(out)]
    for name, text in PLUGINS.items():
        (out / f"{name}.py").write_text(text)
        words += ["--plugin", str(out / f"{name}.py")]
    command = [sys.executable, "-m", "benchmark", "run", "--methods", "ms,ms_again,ms_twin"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *words], env=environment, check=True)


def main() -> int:
    """Print every comparison of the three rows; return 1 if one is better or worse."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(scratch) / "runs").resolve()
        study(out)
        frame = pd.read_csv(out / "tables" / "pairs.csv")
    ours = frame[frame.method_a.str.startswith("ms") & frame.method_b.str.startswith("ms")]
    columns = ["embedding", "metric", "method_a", "method_b", "n", "mean_difference", "ci_low"]
    columns += ["ci_high", "p_sign_flip", "p_holm", "verdict"]
    print(ours[columns].to_string(index=False, float_format="{:.5f}".format))
    same = ours[(ours.method_a == "ms") & (ours.method_b == "ms_again")]
    exact = bool((same[["mean_difference", "ci_low", "ci_high"]] == 0).all(axis=None))
    false = int(ours.verdict.isin(["better", "worse"]).sum())
    print(f"the same method under another name: {'bit for bit equal' if exact else 'DIFFERS'}")
    print(f"false verdicts: {false} of {len(ours)} comparisons")
    return int(false > 0 or not exact)


if __name__ == "__main__":
    raise SystemExit(main())
