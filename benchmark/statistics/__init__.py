"""Intervals, paired tests, power and shares of variance: numbers in, numbers out.

Comes in: scores of runs, paired by seed. Goes out: intervals, p values, verdicts. Fractions
throughout, no files, no tables.
May import ``study``, for seeds that derive from names.
"""
