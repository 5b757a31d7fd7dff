"""Which models there are: the cards that come with the package, and those of the user's own folder.

A later card with the id of an earlier one replaces it. The catalogue knows cards, not weights.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path

from vernissage.errors import BadCard, UnknownName
from vernissage.records.files import files_hash
from vernissage.zoo.card import Card, load_card

HOME_VARIABLE = "VERNISSAGE_HOME"


def home() -> Path:
    """The user's folder for cards, downloads and caches: $VERNISSAGE_HOME, or ~/.vernissage."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".vernissage")


def package_folder(name: str) -> Path:
    """A folder inside the installed package."""
    return Path(str(resources.files("vernissage"))) / name


def model_place(model: str, folder: Path) -> str:
    """Where a model that something in `folder` builds on lies: one of the package's, a folder seen from there, or a hub id."""
    if model.startswith("mini/"):
        return str(package_folder("mini") / model.removeprefix("mini/"))
    beside = folder / model
    return str(beside) if beside.is_dir() else model


def seen_from(folder: Path, model: str) -> str:
    """A local model as a path from `folder`, so that both can be moved together; names and hub ids as they are. See `model_place`."""
    if model.startswith("mini/") or not Path(model).is_dir():
        return model
    try:
        return os.path.relpath(Path(model).resolve(), folder.resolve())
    except ValueError:  # another drive
        return str(Path(model).resolve())


class Catalogue(Mapping[str, Card]):
    """Cards by id; looking up an unknown id raises `UnknownName` with the nearest ones.

    Args:
        cards: A later one replaces an earlier one of the same id.
        along: Ids of those that others build on and nobody chose; they can be painted with, and no planner chooses them.
    """

    def __init__(self, cards: Iterable[Card], along: Iterable[str] = ()) -> None:
        self._cards = {card.id: card for card in cards}
        self.choosable = {model: card for model, card in self._cards.items() if model not in set(along)}
        for model in self._cards:
            self._check_bases(model)

    def _check_bases(self, model: str) -> None:
        """See that what a card builds on is there, and does not build on the card itself."""
        chain = [model]
        while (base := self._cards[chain[-1]].source.base) is not None:
            file = self._cards[chain[-1]].file or chain[-1]
            if base not in self._cards:
                raise BadCard(
                    f"The card {file} builds on {base!r}, which is not in the catalogue.", hint="Add that card first, or correct `base`."
                )
            if base in chain:
                raise BadCard(f"The card {file} builds on {base!r}, which builds on it in a circle.", hint="Correct one `base`.")
            chain.append(base)

    def __getitem__(self, model: str) -> Card:
        try:
            return self._cards[model]
        except KeyError:
            raise UnknownName("model", model, self._cards) from None

    def __contains__(self, model: object) -> bool:
        return model in self._cards

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def digest(self, model: str) -> str:
        """Hash of a model's card and of those that it builds on, and of the files that they name."""
        cards = [self[model]]
        while (base := cards[-1].source.base) is not None:
            cards.append(self[base])
        files = files_hash(place for card in cards for place in card.files())
        return hashlib.sha256("".join([*(card.model_dump_json() for card in cards), files]).encode()).hexdigest()[:16]

    def choose(self, names: Iterable[str]) -> "Catalogue":
        """The part of the catalogue that a studio works with; a trailing * stands for all models that begin so."""
        chosen: dict[str, Card] = {}
        for name in names:
            if name.endswith("*"):
                found = {model: card for model, card in self._cards.items() if model.startswith(name[:-1])}
                if not found:
                    raise UnknownName("model", name, self._cards)
                chosen |= found
            else:
                chosen[name] = self[name]
        along: dict[str, Card] = {}
        for card in chosen.values():
            while card.source.base is not None:
                card = self[card.source.base]
                if card.id not in chosen:
                    along[card.id] = card
        return Catalogue((chosen | along).values(), along)


def load_catalogue(folders: Iterable[Path] = ()) -> Catalogue:
    """All cards of the package, of the user's folder, and of any further folders.

    Raises:
        BadCard: One of them has a mistake, or a further folder is not there.
    """
    folders = tuple(folders)
    for folder in folders:
        if not folder.is_dir():
            raise BadCard(f"There is no folder of cards at {folder}.", hint="Correct `cards` in the configuration.")
    places = [package_folder("mini") / "cards", package_folder("zoo") / "cards", home() / "cards", *folders]
    return Catalogue(card for place in places if place.is_dir() for card in load_cards(place).values())


def load_cards(folder: Path) -> dict[str, Card]:
    """The cards of one folder by id.

    Raises:
        BadCard: One of them has a mistake.
    """
    cards = [load_card(path) for path in sorted(folder.glob("*.toml"))]
    return {card.id: card for card in cards}
