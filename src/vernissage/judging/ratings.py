"""Ratings as people gave them: a long table of subject, picture, dimension, rating; read from CSV or Parquet and checked."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.records.table import read_rows

LARGEST = 1e6
"""Of a rating; larger ones are mistakes, and their squares have no room."""
COLUMNS = ("subject", "picture", "dimension", "rating")


class Rating(NamedTuple):
    """One subject's rating of one picture in one dimension, such as perception, correspondence or an answer (0 or 1)."""

    subject: str
    picture: str
    dimension: str
    rating: float


class Panel(NamedTuple):
    """All ratings of one dimension as a matrix."""

    subjects: tuple[str, ...]
    pictures: tuple[str, ...]
    values: ndarray
    """Shape (subject, picture); NaN where a subject did not rate a picture."""


def read_ratings(path: Path) -> list[Rating]:
    """Ratings from a CSV or Parquet file with the columns subject, picture, dimension, rating.

    Raises:
        BadInput: The file cannot be read, lacks a column, or a rating is no finite number; names the line.
    """
    rows = read_rows(path, "ratings", COLUMNS)
    ratings = []
    for number, row in rows:
        try:
            value = float(row["rating"])
        except (TypeError, ValueError):
            value = math.nan
        if not abs(value) <= LARGEST:
            raise BadInput(f"{path}, line {number}: the rating is {row['rating']!r}, not a number.", hint="Mend or delete that line.")
        subject, picture, dimension = (row[name].strip() for name in COLUMNS[:3])
        if not (subject and picture and dimension):
            raise BadInput(f"{path}, line {number}: subject, picture or dimension is empty.", hint="Mend or delete that line.")
        ratings.append(Rating(subject, picture, dimension, value))
    return ratings


def panel_of(ratings: Iterable[Rating], dimension: str) -> Panel:
    """The ratings of one dimension as a matrix.

    Raises:
        BadInput: There are none of that dimension, or a subject rated a picture twice.

    Example:
        >>> panel = panel_of([Rating("ann", "a.png", "perception", 4), Rating("bob", "b.png", "perception", 2)], "perception")
        >>> panel.values
        array([[ 4., nan],
               [nan,  2.]])
    """
    chosen = [rating for rating in ratings if rating.dimension == dimension]
    if not chosen:
        raise BadInput(f"There are no ratings of {dimension!r}.", hint="Check the name of the dimension.")
    subjects = {name: index for index, name in enumerate(dict.fromkeys(rating.subject for rating in chosen))}
    pictures = {name: index for index, name in enumerate(dict.fromkeys(rating.picture for rating in chosen))}
    values = np.full((len(subjects), len(pictures)), np.nan)
    for rating in chosen:
        place = subjects[rating.subject], pictures[rating.picture]
        if not np.isnan(values[place]):
            raise BadInput(f"{rating.subject} rated {rating.picture} twice in {dimension}.", hint="Keep one of the two.")
        values[place] = rating.rating
    return Panel(tuple(subjects), tuple(pictures), values)
