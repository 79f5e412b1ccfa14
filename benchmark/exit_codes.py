"""What a command answers to the shell."""

DONE, BAD_INPUT, FAILED_JOBS, TIME_UP, MACHINE, INTERRUPTED = 0, 2, 3, 4, 5, 130
