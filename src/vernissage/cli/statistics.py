"""`vernissage statistics`: a reference set, once, for all Frechet distances to come."""

from pathlib import Path

import click

from vernissage.cli import config_option, named
from vernissage.errors import BadInput


@click.command(name="statistics")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--encoder", type=click.Choice(["clip", "dinov2", "inception"]), default="clip", show_default=True, help="Whose features.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("statistics.npz"), show_default=True, help="The file to write.")
@config_option
def command(source: Path, encoder: str, out: Path, config: Path | None) -> None:
    """Write mean and covariance of the features of SOURCE, as pytorch-fid and clean-fid read them.

    SOURCE is a folder, table or dataset of pictures, as for `vernissage score`, which takes the file as its --reference.

    \b
    vernissage statistics originals/ --encoder inception -o originals.npz
    vernissage score pictures/ --metrics fid --reference originals.npz
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.cli.studio import open_studio
    from vernissage.metrics.distribution import save_statistics

    if out.suffix != ".npz":
        raise BadInput(f"{out} does not end in .npz.", hint="Name the file like originals.npz.")
    studio = open_studio(config)
    with progress_bar("encoding") as progress:
        statistics, missing = studio.statistics(source, encoder, progress=progress)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_statistics(out, statistics)
    except OSError as error:
        raise BadInput(f"Cannot write {out}: {error.strerror}.", hint="Choose another place with --out.") from error
    left_out = f"; {missing} could not be read" if missing else ""
    click.echo(f"{statistics.n} pictures, {len(statistics.mean)} features by {encoder}{left_out}")
    click.echo(named(out))
