"""`vernissage data`: sets to train and measure with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vernissage.cli import harmless
from vernissage.errors import BadInput

if TYPE_CHECKING:
    from vernissage.datasets.collect import Collected


@click.group(name="data")
def command() -> None:
    """Collect demonstrations for planners; a collection that was cut off goes on where it stopped."""


@command.command(name="collect")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demonstrations.jsonl"), show_default=True, help="JSONL file.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures that carry their parameters; default: Civitai.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Demonstrations to have in the end, from Civitai.")
@click.option("--sort", type=click.Choice(["Most Reactions", "Most Comments", "Newest"]), default="Most Reactions", show_default=True)
@click.option("--period", type=click.Choice(["AllTime", "Year", "Month", "Week", "Day"]), default="AllTime", show_default=True)
@click.option("--nsfw", is_flag=True, help="Take pictures that are not safe for work as well.")
@click.option("--address", default="https://civitai.com/api/v1", hidden=True)
def collect(out: Path, pictures: Path | None, count: int, address: str, **options: Any) -> None:
    """Collect demonstrations (prompt, model, arguments) from Civitai, or from pictures.

    Civitai's token, where one is needed, is taken from $CIVITAI_TOKEN.

    \b
    vernissage data collect --count 5000 --out demonstrations.jsonl
    vernissage data collect --pictures outputs/
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import check_folder, progress_bar
    from vernissage.datasets.collect import collect_civitai, collect_pictures

    check_folder(out.parent)
    if out.is_dir():
        raise BadInput(f"{out} is a folder.", hint="Name a file with --out, such as demonstrations.jsonl.")
    with progress_bar("collecting") as progress:
        if pictures:
            found = collect_pictures(pictures, out, progress=progress)
        else:
            found = collect_civitai(out, count=count, address=address, progress=progress, **options)
    for line in _lines(found):
        click.echo(harmless(line))
    click.echo(harmless(str(out)))


def _lines(found: "Collected") -> list[str]:
    dropped = [f"  {count} x {reason}" for reason, count in sorted(found.dropped.items(), key=lambda pair: -pair[1])]
    return [f"{found.kept} demonstrations"] + ([f"{sum(found.dropped.values())} not taken:", *dropped] if dropped else [])
