"""The runner: it plans, searches, trains, tests, records and tabulates."""
