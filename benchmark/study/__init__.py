"""What an output folder holds: the grid, its records, and what they were made with.

Comes in: names and a protocol. Goes out: cells, jobs' seeds, suggested settings, and records
that are written in one step and checked when they are read.
Imports nothing of the runner. Only ``suggestions`` knows Optuna; nothing here needs torch.
"""
