"""Cards of models that nobody paints with, for tests of those who choose and check."""

from vernissage.zoo.card import Card, parse_card
from vernissage.zoo.catalogue import package_folder


def card(name: str, **changes) -> Card:
    values = {
        "id": name,
        "title": name,
        "description": f"Good at {name}.",
        "licence": "MIT",
        "source": {"path": "x"},
        "width": 64,
        "height": 96,
        "size_multiple": 16,
        "sizes": {"low": 32, "high": 128},
        "samplers": ["Euler", "DDIM"],
        "steps": {"low": 4, "high": 60},
        "cfg_scale": {"low": 1, "high": 10},
        "defaults": {"sampler": "Euler", "steps": 20, "cfg_scale": 4.0},
    }
    return parse_card(values | changes, folder=package_folder("mini"), name=name)
