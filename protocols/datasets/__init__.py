"""One module per dataset; each has ``digest(root)`` and ``load(root) -> Dataset``."""
