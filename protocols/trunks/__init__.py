"""One file per trunk; each has ``VERSION`` and ``build(weights) -> Trunk``."""
