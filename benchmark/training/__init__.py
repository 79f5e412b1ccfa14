"""What a worker does: one training of one fold, its evaluation, and the join of a run's folds.

Comes in: a job as plain data. Goes out: its outcome as plain data; workers write nothing but
checkpoints. May import ``study``. Training classes, validation classes and test classes are
opened in ``splits`` alone, the last by one function.
"""
