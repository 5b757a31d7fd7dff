"""Which studio a command works with: the given configuration, the one in this folder, or the embedded mini studio."""

from pathlib import Path

from vernissage.api import Studio

DEFAULT = Path("vernissage.toml")


def open_studio(config: Path | None) -> Studio:
    """The studio for a command; nothing heavy is loaded yet."""
    if config is None and DEFAULT.is_file():
        config = DEFAULT
    return Studio.from_toml(config) if config else Studio()
