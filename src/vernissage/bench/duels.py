"""Duels: two planners' pictures of the same chats side by side, decided by a judge or by people (ChatGen's pairwise study).

For people the pictures of a run are shown in pairs on one page, in an order of its own and without the planners' names. What they
choose comes back as CSV.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from vernissage.errors import BadInput, reason_of
from vernissage.metrics.interval import Estimate, share_interval
from vernissage.records.files import write_whole
from vernissage.records.picture import Picture
from vernissage.records.table import read_rows, write_table
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.layouts import Entry

TIE = 1.0
"""Points of a judge within which two pictures are even."""
QUESTIONS = {"quality": "Which picture looks better?", "relevance": "Which picture shows better what was asked for?"}
"""What people are asked about each pair."""
CHOICES = ("left", "tie", "right")


class Duel(NamedTuple):
    """Two planners' pictures of the same chats, decision by decision."""

    first: str
    second: str
    measure: str
    wins: int
    """Of the first."""
    ties: int
    losses: int
    lead: Estimate
    """Share of wins less share of losses, in [-1, 1], with its interval over chats; all of people's votes on one weigh as one."""


class Pair(NamedTuple):
    """Two pictures to choose from."""

    id: str
    query: str
    left: Path
    right: Path
    first: str
    second: str
    first_is_left: bool


class Asked(NamedTuple):
    """What somebody asked for."""

    text: str
    pictures: Sequence[Path] = ()
    """Reference pictures."""


def judged_duels(scores: Mapping[str, Mapping[str, Mapping[str, Score | Unscored]]]) -> list[Duel]:
    """Duels by the judge's two dimensions, where they were asked for.

    Args:
        scores: By planner, metric and query.
    """
    names, found = list(scores), []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            for measure in ("judge-perception", "judge-correspondence"):
                one, two = scores[first].get(measure, {}), scores[second].get(measure, {})
                gaps = [a.value - b.value for key, a in one.items() if isinstance(a, Score) and isinstance(b := two.get(key), Score)]
                if gaps:
                    found.append(_duel(first, second, measure, [[(gap > TIE) - (gap < -TIE)] for gap in gaps]))
    return found


def pairs_of(entries: Mapping[str, Sequence[Entry]]) -> list[Pair]:
    """Every two planners' pictures of a query, sides and order at random, the same for the same pictures."""
    names, found = list(entries), []
    hashes = {entry.path: hashlib.sha256(entry.path.read_bytes()).hexdigest() for own in entries.values() for entry in own}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            others = {entry.name: entry.path for entry in entries[second]}
            for entry in entries[first]:
                if entry.name in others:
                    pair = [first, second, entry.name, hashes[entry.path], hashes[others[entry.name]]]
                    lot = hashlib.sha256(json.dumps(pair).encode("utf-8", "surrogatepass")).hexdigest()
                    left = int(lot[-1], 16) % 2 == 0
                    sides = (entry.path, others[entry.name]) if left else (others[entry.name], entry.path)
                    found.append(Pair(lot[:12], entry.name, *sides, first, second, left))
    return sorted(found, key=lambda pair: pair.id)


def write_page(pairs: Sequence[Pair], asked: Mapping[str, Asked], page: Path) -> None:
    """The page on which people choose, which saves their votes as votes.csv; beside it, in a folder of its name, the pictures.

    Their pixels are copied, since paths and metadata tell who painted them.

    Args:
        pairs: See `pairs_of`.
        asked: What was asked for, by query.
        page: HTML file.

    Raises:
        BadInput: It cannot be written, or a picture cannot be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vernissage.bench", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    shown, folder = [], page.with_suffix("")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pair in pairs:
            request = asked.get(pair.query, Asked(""))
            pictures = {"left": pair.left, "right": pair.right} | {f"asked-{n}": path for n, path in enumerate(request.pictures, start=1)}
            paths = {name: f"{folder.name}/{pair.id}-{name}.png" for name in pictures}
            for name, picture in pictures.items():
                Picture.of(Picture.open(picture).image).save(page.parent / paths[name])
            references = [path for name, path in paths.items() if name.startswith("asked")]
            shown.append({"id": pair.id, "prompt": request.text, "references": references, "left": paths["left"], "right": paths["right"]})
        write_whole(page, environment.get_template("duels.html.jinja").render(pairs=shown, questions=QUESTIONS))
    except OSError as error:
        raise BadInput(f"Cannot write {page}: {reason_of(error)}.", hint="Choose another folder.") from error


def voted_duels(path: Path, pairs: Sequence[Pair]) -> list[Duel]:
    """Duels by people's votes.

    Args:
        path: CSV with the columns pair, question, choice (left, right or tie), and voter where there are several.
        pairs: Of the run that the votes are about.

    Raises:
        BadInput: The file cannot be read, names no pair of this run, or a voter voted twice on one.
    """
    known = {pair.id: pair for pair in pairs}
    votes: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    seen: set[tuple[str, str, str]] = set()
    for line, row in read_rows(path, "votes", ("pair", "question", "choice")):
        name, question, choice = (row[column].strip() for column in ("pair", "question", "choice"))
        if (name, question, choice) == ("pair", "question", "choice"):
            continue  # files of several voters joined
        pair, choice = known.get(name), choice.lower()
        if question not in QUESTIONS:
            raise BadInput(f"{path}, line {line}: the question is {question!r}.", hint=f"It is {' or '.join(QUESTIONS)}.")
        if pair is None:
            raise BadInput(f"{path}, line {line}: this run has no pair {row['pair']!r}.", hint="Use the votes of the page duels.html.")
        if choice not in CHOICES:
            raise BadInput(f"{path}, line {line}: the choice is {row['choice']!r}.", hint=f"Write {', '.join(CHOICES)}.")
        told = (pair.id, question, row.get("voter", "").strip())
        if told in seen:
            raise BadInput(f"{path}, line {line}: the pair {pair.id} was voted on twice.", hint="Tell voters apart by a column voter.")
        seen.add(told)
        sign = CHOICES.index("tie") - CHOICES.index(choice)
        own = votes.setdefault((pair.first, pair.second, question), {})
        own.setdefault(pair.query, []).append(sign if pair.first_is_left else -sign)
    return [_duel(*key, list(own.values())) for key, own in votes.items()]


def _duel(first: str, second: str, measure: str, decisions: Sequence[Sequence[int]]) -> Duel:
    """From 1, 0 or -1 for each decision on each chat."""
    every = [decision for own in decisions for decision in own]
    found = share_interval((1 + np.array([float(np.mean(own)) for own in decisions])) / 2)  # of wins, where a tie is half a one
    lead = Estimate(2 * found.value - 1, 2 * found.low - 1, 2 * found.high - 1, found.n)
    return Duel(first, second, measure, every.count(1), every.count(0), every.count(-1), lead)


def write_key(pairs: Sequence[Pair], path: Path) -> None:
    """Which planner painted which side, for whoever does not vote.

    Raises:
        BadInput: It cannot be written.
    """
    rows = []
    for pair in pairs:
        sides = (pair.first, pair.second) if pair.first_is_left else (pair.second, pair.first)
        rows.append({"pair": pair.id, "query": pair.query, **dict(zip(("left", "right"), sides, strict=True))})
    write_table(path, rows)
