"""One file per protocol that ships; each holds ``PROTOCOL``."""
