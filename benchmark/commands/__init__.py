"""What stands behind each command: options in, words and an exit code out.

Comes in: parsed options. Goes out: an exit code; everything a command prints is printed here or
in ``running.progress``.
May import every other package.
"""
