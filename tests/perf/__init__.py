"""How fast the program is, as ratios of two things measured in alternation on one machine.

    python -m tests.perf [LINE ...] [--json FILE]

Absolute times of a shared machine say little, so each line runs its two sides in turn and takes
the median of the ratios of the rounds. What came out is kept in benchmark/PERFORMANCE.md.
"""
