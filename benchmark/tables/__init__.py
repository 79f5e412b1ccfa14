"""From records to frames, and from frames to the tables that people read.

Comes in: a study's records. Goes out: pandas frames with fractions, headlines in per cent, and
files in four formats.
May import ``study`` and ``statistics``; needs no torch.
"""
