"""The MLflow mirror of the records, which can be rebuilt from them at any time.

Comes in: a study and its records. Goes out: runs in a tracking store, or nothing at all where
the store is away.
May import ``study``. Only ``client`` imports MLflow.
"""
