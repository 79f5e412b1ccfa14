"""What a command answers to the shell."""

DONE, BAD_INPUT, FAILED_JOBS, INTERRUPTED = 0, 2, 3, 130
