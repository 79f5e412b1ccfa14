"""The runner: it plans, searches, trains, tests, records and tabulates."""

__version__ = "0.1.0"
