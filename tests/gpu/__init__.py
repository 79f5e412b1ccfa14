"""Checks that need a CUDA device: ``python -m tests.gpu``, or some by name."""
