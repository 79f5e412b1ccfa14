"""Bringing a dataset in: find its archives, unpack them safely, verify and number the images.

Comes in: an archive, a folder, a list or a web address. Goes out: a prepared folder with a
manifest, and every finding about images that are unreadable, leaking or odd.
Imports nothing of the runner.
"""
