"""`vernissage repaint`: a T2I model paints reference pictures again, in rounds, and is scored against them."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import config_option, harmless, named, numbered, remark
from vernissage.cli.show import check_folder
from vernissage.errors import BadInput, VernissageError
from vernissage.records.files import write_whole

if TYPE_CHECKING:
    from vernissage.repainting.loop import Settings


TOGETHER = 8
"""References that are repainted in step, and kept before the next are."""


@click.command(name="repaint")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The model under test; see `vernissage zoo list`.")
@click.option("--rounds", type=click.IntRange(1, 20), default=4, show_default=True, help="Rounds, T in the paper.")
@click.option("--candidates", type=click.IntRange(1, 32), default=3, show_default=True, help="Pictures a round, N in the paper.")
@click.option(
    "--words",
    type=click.Choice(["tree", "direct", "interrogate"]),
    default="tree",
    show_default=True,
    help="How the reference is put into words: understanding tree, one MLLM prompt, or caption and phrases ranked by CLIP.",
)
@click.option("--patience", type=click.IntRange(0), default=0, help="Stop after N rounds without a better picture; 0 never does.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides noise and words.")
@click.option(
    "--rate", default="consistency,perception", show_default=True, help="What is rated, of consistency, perception, match, facts; or none."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("repainted"), show_default=True, help="Folder for what comes of it."
)
@click.option("--rater", type=click.Choice(["mllm", "judge"]), default="mllm", show_default=True, help="Who rates.")
@click.option("--weights", help='Of the scores by which pictures are chosen, like "clip=1,dinov2=1,consistency=0.5".')
@config_option
def command(
    images: tuple[Path, ...],
    model: str,
    words: str,
    rate: str,
    rater: str,
    weights: str | None,
    out: Path,
    config: Path | None,
    **numbers: int,
) -> None:
    """Let --model paint IMAGES again.

    Of each reference you get, in the folder --out: a strip from the reference to the last round, the best and the last
    picture, the understanding tree as SVG, and everything that was tried as JSON. What another model or other settings made of
    a picture stays: its folder is numbered.

    \b
    vernissage repaint stars.png --model mini/neon
    vernissage repaint photos/*.jpg --model mini/general --rounds 2 --words direct
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import beside_the_bar, mini_note, names_of, progress_bar, show_round, show_tree, weights_of
    from vernissage.cli.studio import open_studio
    from vernissage.records.picture import Picture
    from vernissage.records.tree import UnderstandingTree
    from vernissage.repainting.loop import Settings

    if not images:
        raise BadInput(
            "There is nothing to repaint: no picture was given.", hint="Try: vernissage repaint picture.png --model mini/general"
        )
    for path in images:
        if path.is_dir():
            hint = f"Name its pictures, {path}/*.png say, or compare models on all of them with vernissage bench repaint --data {path}."
            raise BadInput(f"{path} is a folder.", hint=hint)
    references = {path: Picture.open(path) for path in images}
    check_folder(out)
    studio = open_studio(config)
    settings = Settings.model_validate({"words": words, "rate": names_of(rate), "rater": rater, **weights_of(weights), **numbers})
    followed = studio.check_repainting(settings)
    folders = place_results(images, out, lambda path, folder: _is_free(folder, references[path].hash, model, followed))

    def watch(news: object) -> None:
        show_tree(news) if isinstance(news, UnderstandingTree) else show_round(news)  # pyright: ignore

    failed, paths = False, list(references)
    each = settings.rounds * settings.candidates
    with progress_bar("repainting") as progress:
        for start in range(0, len(paths), TOGETHER):
            part = paths[start : start + TOGETHER]
            results = studio.repaint_several(
                [references[path] for path in part],
                model=model,
                settings=settings,
                progress=lambda done, _total, before=start: progress(before * each + done, len(paths) * each),
                watch=watch if len(references) == 1 else None,
            )
            for path, result in zip(part, results, strict=True):
                failed |= isinstance(result, VernissageError)
                kept = [] if isinstance(result, VernissageError) else keep(result, references[path], folders[path], followed)
                with beside_the_bar():
                    _summarise(path, kept, result)
    if not model.startswith("mini/") and (note := mini_note([studio.config.mllm, studio.config.clip, studio.config.dinov2])):
        remark(note)
    if failed:
        sys.exit(1)


def place_results(images: Sequence[Path], out: Path, is_free: Callable[[Path, Path], bool]) -> dict[Path, Path]:
    """A folder for each reference, named after it, with a number where that is another reference's.

    Args:
        images: The references; one that comes twice has one folder.
        out: What the folders are in.
        is_free: Whether the result of a reference may go to a folder: it holds none, or the same one.
    """
    folders: dict[Path, Path] = {}
    for path in dict.fromkeys(images):
        places = (out / name for name in numbered(path.stem))
        folders[path] = next(place for place in places if place not in folders.values() and is_free(path, place))
    return folders


def _is_free(folder: Path, reference: str, model: str, settings: "Settings") -> bool:
    """Whether no other repainting lies there: of another picture, by another model or with other settings."""
    from vernissage.records.regeneration import Regeneration
    from vernissage.repainting.loop import Settings

    try:
        found = Regeneration.model_validate_json((folder / "regeneration.json").read_bytes())
        of = Settings.model_validate_json((folder / "settings.json").read_bytes())
    except FileNotFoundError:
        return not (folder / "regeneration.json").exists()
    except (OSError, ValueError):
        return False
    return (found.reference, found.model, of) == (reference, model, settings)


def keep(repainted, reference, folder: Path, settings: "Settings") -> list[Path]:
    """Write what came of one reference into a folder.

    Raises:
        BadInput: It cannot be written.
    """
    from vernissage.records.picture import Picture
    from vernissage.repainting.drawing import draw_strip, draw_tree

    regeneration, pictures = repainted
    for name in ("best.png", "last.png", "tree.svg"):
        (folder / name).unlink(missing_ok=True)  # of a repainting before this one
    written = [Picture.of(draw_strip(reference.image, regeneration, pictures), sheet=True).save(folder / "strip.png")]
    for name, candidate in (("best", regeneration.best), ("last", regeneration.last)):
        if candidate is not None:
            written.append(pictures[candidate.picture].save(folder / f"{name}.png"))
    if regeneration.tree is not None:
        written.append(write_whole(folder / "tree.svg", draw_tree(regeneration.tree)))
    write_whole(folder / "regeneration.json", regeneration.model_dump_json(indent=2) + "\n")
    write_whole(folder / "settings.json", settings.model_dump_json(indent=2) + "\n")
    return [*written, folder / "regeneration.json", folder / "settings.json"]


def _summarise(path: Path, kept: Sequence[Path], repainted) -> None:
    """What came of a reference, and where it lies."""
    from vernissage.repainting.drawing import score_text

    if isinstance(repainted, VernissageError):
        click.echo(click.style(f"{named(path)}: not repainted: ", fg="red") + harmless(str(repainted)), err=True)
        return
    for each in kept:
        click.echo(named(each))
    regeneration = repainted.regeneration
    for name, candidate in (("last round", regeneration.last), ("best round", regeneration.best)):
        scores = {} if candidate is None else candidate.scores
        shown = "  ".join(f"{score} {score_text(value)}" for score, value in scores.items()) or "nothing was painted"
        click.echo(click.style(f"{name:>11}  ", fg="cyan") + shown, err=True)
    for failure in regeneration.failures:
        click.echo(click.style("    missing  ", fg="yellow") + harmless(failure), err=True)
