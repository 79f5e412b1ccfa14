"""Rows of results/: copied out of a study, read back without trust, checked, ranked.

Comes in: a study's finished cells, or whatever lies in results/. Goes out: a row's files, every
problem at once, the leaderboard.
May import ``study`` and ``statistics``; runs nothing it reads and needs no torch.
"""
