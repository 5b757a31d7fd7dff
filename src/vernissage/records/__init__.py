"""The records: what travels on the roads, frozen and JSON."""
