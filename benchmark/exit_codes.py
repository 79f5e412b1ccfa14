"""What a command answers to the shell."""

DONE, BAD_INPUT, FAILED_JOBS, MACHINE, INTERRUPTED = 0, 2, 3, 5, 130
