"""What a command answers to the shell."""

DONE, BAD_INPUT, FAILED_JOBS, TIME_UP, INTERRUPTED = 0, 2, 3, 4, 130
