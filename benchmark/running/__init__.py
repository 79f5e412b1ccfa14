"""The main job: names become a checked setup, cells become flows of jobs, jobs become records.

Comes in: a command's options. Goes out: records, written by the coordinator alone, and what a
person sees meanwhile.
May import ``study``, ``engines``, ``training`` and ``mirror``.
"""
