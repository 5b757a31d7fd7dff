"""Reading what people and trainings wrote down: recipes in TOML, descriptions in JSON. The one place that words their mistakes."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vernissage.errors import BadCard
from vernissage.zoo.card import explain

Record = TypeVar("Record", bound=BaseModel)


def read_recipe(kind: type[Record], path: Path, *, places: Sequence[str], page: str) -> Record:
    """Read a training's recipe; its relative paths, and a `backbone` that is a folder beside it, start at its own folder.

    Args:
        kind: The recipe's record.
        path: TOML file.
        places: Its fields that are paths.
        page: Where recipes are explained.

    Raises:
        BadCard: It cannot be read, or has a mistake in it.
    """
    try:
        recipe = kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise BadCard(f"Cannot read the recipe {path}: {error.strerror}.", hint="Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCard(f"The recipe {path} is not valid TOML: {error}.", hint="Mend that line.") from error
    except ValidationError as error:
        raise BadCard(f"The recipe {path} has a mistake: {explain(error)}.", hint=f"See {page}.") from error
    whole: dict[str, Any] = {name: path.parent / value for name in places if (value := getattr(recipe, name)) is not None}
    beside = path.parent / getattr(recipe, "backbone")  # noqa: B009  every recipe has one
    return recipe.model_copy(update=whole | ({"backbone": str(beside.resolve())} if beside.is_dir() else {}))


def read_description(kind: type[Record], folder: Path, *, what: str, files: tuple[str, str], again: str) -> Record:
    """Read the JSON that stands beside trained weights.

    Args:
        kind: The description's record.
        folder: Where it lies.
        what: What it describes, "judge" or "planner".
        files: Names of the description and of the weights.
        again: What to do about a mistake in it.

    Raises:
        BadCard: There is none, or it has a mistake in it.
    """
    try:
        return kind.model_validate_json((folder / files[0]).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCard(f"There is no {what} in {folder}: {error.strerror}.", hint=f"It must hold {files[0]} and {files[1]}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise BadCard(f"The {what} {folder / files[0]} has a mistake: {reason}.", hint=again) from error
