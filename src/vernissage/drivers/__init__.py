"""Drivers: one file per outside system. Heavy imports live here; `wiring` reaches them by name."""
