"""One file per recipe; each holds ``RECIPE``."""
