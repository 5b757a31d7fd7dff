"""The trained planner: what of it is a network."""
