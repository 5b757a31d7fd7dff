"""Which studio a command works with: the given configuration, the one in this folder, or the embedded mini studio."""

from pathlib import Path

from vernissage.api import Studio
from vernissage.wiring import planner_config

DEFAULT = Path("vernissage.toml")


def open_studio(config: Path | None, *, planner: str | None = None) -> Studio:
    """The studio for a command, with another planner than it has where one is named; nothing heavy is loaded yet.

    Raises:
        UserError: The configuration has a mistake, or there is no such planner.
    """
    if config is None and DEFAULT.is_file():
        config = DEFAULT
    studio = Studio.from_toml(config) if config else Studio()
    return studio if planner is None else Studio(studio.config.model_copy(update={"planner": planner_config(planner)}))
