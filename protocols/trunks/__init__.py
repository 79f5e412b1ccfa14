"""One file per trunk; each has ``build(weights) -> Trunk``."""
