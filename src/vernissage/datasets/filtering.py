"""Filtering demonstrations: outdated models, models that hardly anybody uses, duplicates, what is not safe for work (ChatGenBench).

Of duplicates the more popular one stays. Everything that is dropped is counted by its reason.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vernissage.errors import UserError
from vernissage.ports import Progress
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture

BANDS = 5
DISTANCE = BANDS - 1
"""Bits of 64 in which the hashes of pictures that look the same may differ."""


class Filtered(NamedTuple):
    """What stays, and how much went for which reason."""

    kept: list[Demonstration]
    dropped: dict[str, int]


def filter_demonstrations(
    demonstrations: Sequence[Demonstration],
    *,
    least: int = 3,
    outdated: Sequence[str] = (),
    inactive: Container[str] = frozenset(),
    nsfw: bool = False,
    progress: Progress | None = None,
) -> Filtered:
    """Keep what planners should learn from, in the order given.

    Args:
        demonstrations: As collected.
        least: Demonstrations that a model must have left, else it counts as inactive.
        outdated: Base models that nobody should learn to choose, such as "SD 1.4"; letter case does not matter.
        inactive: Models that hardly anybody uses, or that are gone.
        nsfw: Whether what is not safe for work stays.
        progress: Called with (done, total) demonstrations.
    """
    dropped: Counter[str] = Counter()
    old = {name.lower() for name in outdated}
    order = []
    for place in sorted(range(len(demonstrations)), key=lambda place: -demonstrations[place].popularity):
        each = demonstrations[place]
        if each.nsfw and not nsfw:
            dropped["not safe for work"] += 1
        elif each.base_model.lower() in old:
            dropped["an outdated model"] += 1
        elif each.plan.model in inactive:
            dropped["an inactive model"] += 1
        else:
            order.append(place)
    # Rare models go first, since what they share with others is then no duplicate; and again, while duplicates make others rare.
    counts = Counter(demonstrations[place].plan.model for place in order)
    rare = {model for model, count in counts.items() if count < least}
    hashes: dict[int, int | None] = {}
    report = progress or (lambda _done, _total: None)
    while True:
        chosen = [place for place in order if demonstrations[place].plan.model not in rare]
        stay, doubles = _distinct(demonstrations, chosen, hashes, lambda done: report(done, len(order)))
        counts = Counter({demonstrations[place].plan.model: 0 for place in chosen})
        counts.update(demonstrations[place].plan.model for place in stay)
        scarce = {model: count for model, count in counts.items() if count < least}
        if not scarce:
            break
        rare |= {model for model, count in scarce.items() if count == min(scarce.values())}
    if gone := len(order) - len(chosen):
        dropped["a model with too few demonstrations"] = gone
    return Filtered([each for place, each in enumerate(demonstrations) if place in stay], dict(dropped + doubles))


def _distinct(
    demonstrations: Sequence[Demonstration], order: Sequence[int], hashes: dict[int, int | None], report: Callable[[int], None]
) -> tuple[set[int], Counter[str]]:
    """Which of these places stay, the earlier of duplicates, and why the others do not; `hashes` keeps what pictures look like."""
    dropped: Counter[str] = Counter()
    plans: set[str] = set()
    looks: set[str] = set()
    nearby = _Nearby()
    stay: set[int] = set()
    for done, place in enumerate(order, start=1):
        each = demonstrations[place]
        if place not in hashes:
            hashes[place] = _hash_of(each)
        hashed = hashes[place]
        if (plan := _plan_key(each)) in plans:
            dropped["the same plan as another"] += 1
        elif each.look and each.look in looks:
            dropped["the same picture as another"] += 1
        elif hashed is not None and nearby.has(hashed):
            dropped["a picture that looks like another"] += 1
        else:
            plans.add(plan)
            looks.add(each.look)
            if hashed is not None:
                nearby.add(hashed)
            stay.add(place)
        report(done)
    return stay, dropped


def difference_hash(image: Image.Image) -> int:
    """64 bits that say where a picture grows brighter from left to right; alike pictures differ in few of them.

    Example:
        >>> grey = Image.linear_gradient("L").rotate(90)
        >>> bin(difference_hash(grey)).count("1"), bin(difference_hash(grey.rotate(180))).count("1")
        (64, 0)
    """
    values = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return sum(1 << place for place in np.flatnonzero(values[:, :-1] < values[:, 1:]).tolist())


class _Nearby:
    """Finds a hash at most `DISTANCE` bits away: of five parts of it, one must then be equal."""

    def __init__(self) -> None:
        self._bands: list[dict[int, list[int]]] = [{} for _ in range(BANDS)]

    def has(self, hashed: int) -> bool:
        parts = zip(self._bands, _parts(hashed), strict=True)
        return any((hashed ^ other).bit_count() <= DISTANCE for band, part in parts for other in band.get(part, ()))

    def add(self, hashed: int) -> None:
        for band, part in zip(self._bands, _parts(hashed), strict=True):
            band.setdefault(part, []).append(hashed)


def _parts(hashed: int) -> list[int]:
    return [(hashed >> 13 * place) & 0x1FFF for place in range(BANDS)]


def _plan_key(demonstration: Demonstration) -> str:
    plan = demonstration.plan
    arguments = plan.arguments.model_dump_json(exclude={"seed"})
    return f"{' '.join(plan.prompt.lower().split())}\n{' '.join(plan.negative_prompt.lower().split())}\n{plan.model}\n{arguments}"


def _hash_of(demonstration: Demonstration) -> int | None:
    """Of a picture that lies here; addresses are not fetched."""
    if not demonstration.picture or "://" in demonstration.picture:
        return None
    try:
        hashed = difference_hash(Picture.open(Path(demonstration.picture)).image)
    except UserError:
        return None
    return hashed or None  # plain pictures of all colours have none of the bits set
