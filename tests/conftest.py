"""Shared by all tests: one thread, and the same hypothesis examples every time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # two busy cores fight over thread pools; sums depend on their number
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
