"""What is measured: protocols, methods, trunks, datasets, metrics and splits.

Nothing here imports :mod:`benchmark`, reads a clock or touches a store.
"""
