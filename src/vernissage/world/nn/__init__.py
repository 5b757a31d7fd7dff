"""Networks of the mini world: the recogniser."""
