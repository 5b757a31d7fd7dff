"""`vernissage judge`: verdicts on pictures, as a table or CSV."""

import csv
import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import harmless
from vernissage.cli.show import check_folder
from vernissage.errors import BadInput
from vernissage.judging.ratings import read_rows
from vernissage.records.picture import SUFFIXES
from vernissage.records.plan import whole_characters

if TYPE_CHECKING:
    from vernissage.records.verdict import Score, Unscored, Verdict


@click.command(name="judge")
@click.argument("pictures", nargs=-1)
@click.option("--prompt", help="What every picture should show; default: the prompt that each picture carries.")
@click.option("--prompts", type=click.Path(path_type=Path), help="CSV with the columns image, prompt, or a text file with a prompt a line.")
@click.option("--ask", "questions", multiple=True, help="A yes/no question about every picture; may be given several times.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the verdicts to this CSV file.")
@click.option("--config", type=click.Path(path_type=Path), help="A vernissage.toml; default: ./vernissage.toml where there is one.")
def command(
    pictures: tuple[str, ...], prompt: str | None, prompts: Path | None, questions: tuple[str, ...], out: Path | None, config: Path | None
) -> None:
    """Judge PICTURES: files, folders, or patterns such as "run/*.png".

    Perception is how good a picture looks, correspondence how well it shows what it should, both 0 to 100. The judge is the
    studio's language model, asked without training on human ratings: compare its scores with one another, not with people's.

    \b
    vernissage judge stars.png --ask "Is there a star?"
    vernissage judge pictures/ --prompts prompts.csv --out verdicts.csv
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.cli.studio import open_studio
    from vernissage.errors import UserError
    from vernissage.records.picture import Picture

    paths = find_pictures(pictures)
    said = [prompt] * len(paths) if prompt and prompt.strip() else read_prompts(prompts, paths) if prompts else []
    if out:
        check_folder(out.parent)
    opened: dict[int, Picture] = {}
    unreadable: dict[Path, str] = {}
    for index, path in enumerate(paths):
        try:
            opened[index] = Picture.open(path)
        except UserError as error:
            unreadable[path] = str(error)
            click.echo(f"{_name(path)}: unscored: {harmless(str(error))}", err=True)
    if not opened:
        raise BadInput("None of the pictures can be read.", hint="See above for the reasons.")
    with progress_bar("judging") as progress:
        verdicts = open_studio(config).judge(
            list(opened.values()), prompts=[said[index] for index in opened] if said else (), questions=questions, progress=progress
        )
    for index, verdict in zip(opened, verdicts, strict=True):
        click.echo(f"{_name(paths[index])}: perception {_shown(verdict.perception)}, correspondence {_shown(verdict.correspondence)}")
        for answer in verdict.answers:
            click.echo(f"  {harmless(answer.question)}  yes {_shown(answer.yes, digits=3)}")
    click.echo(f"{len(opened)}/{len(paths)} judged by {verdicts[0].judge}", err=True)
    if out:
        write_verdicts(out, [paths[index] for index in opened], verdicts, unreadable)
        click.echo(str(out))
    if unreadable:
        sys.exit(1)


def find_pictures(given: tuple[str, ...]) -> list[Path]:
    """Files, the pictures in folders, and what patterns match, each once.

    Raises:
        BadInput: Nothing was given, or nothing is there.
    """
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            found += sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
        elif glob.has_magic(text) and not path.exists():
            found += sorted(Path(each) for each in glob.glob(text, recursive=True))
        else:
            found.append(path)
    if not found:
        raise BadInput("There are no pictures to judge.", hint="Name files, folders, or patterns in quotes.")
    return list(dict.fromkeys(found))


def read_prompts(path: Path, pictures: list[Path]) -> list[str | None]:
    """The prompt of each picture, from a CSV by file name, or from lines in the pictures' order.

    Raises:
        BadInput: The file cannot be read, or does not fit the pictures.
    """
    if path.suffix.lower() == ".csv":
        return _prompts_by_name(path, pictures)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read the prompts {path}: {error}.", hint="It must be a text file in UTF-8.") from error
    lines = [line.strip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    if len(lines) != len(pictures):
        raise BadInput(f"{path} has {len(lines)} prompts for {len(pictures)} pictures.", hint="Give one line a picture, or a CSV by name.")
    return list(lines)


def _prompts_by_name(path: Path, pictures: list[Path]) -> list[str | None]:
    rows = read_rows(path, "prompts", ("image", "prompt"))
    by_name: dict[str, set[str]] = {}
    for _, row in rows:
        if row["image"] and (row["prompt"] or "").strip():
            by_name.setdefault(Path(row["image"]).name, set()).add(row["prompt"].strip())
    for picture in pictures:
        if len(by_name.get(picture.name, ())) > 1:
            raise BadInput(f"{path} has several prompts for pictures called {picture.name}.", hint="Give the pictures names of their own.")
    if not any(picture.name in by_name for picture in pictures):
        raise BadInput(f"{path} names none of the pictures.", hint="Its column image must hold their file names.")
    return [next(iter(by_name[picture.name])) if picture.name in by_name else None for picture in pictures]


def write_verdicts(path: Path, pictures: list[Path], verdicts: "list[Verdict]", unreadable: dict[Path, str]) -> None:
    """Verdicts as CSV: empty where unscored, with the reason in a column of its own; then the pictures that cannot be read.

    Raises:
        BadInput: The file cannot be written.
    """
    questions = [answer.question for answer in verdicts[0].answers]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["image", "perception", "perception_level", "correspondence", "correspondence_level", *questions, "unscored", "judge"]
            )
            for picture, verdict in zip(pictures, verdicts, strict=True):
                scores = [verdict.perception, verdict.correspondence, *(answer.yes for answer in verdict.answers)]
                values = [getattr(score, "value", "") for score in scores]
                reasons = "; ".join(dict.fromkeys(score.reason for score in scores if not hasattr(score, "value")))
                row = [
                    _name(picture),
                    values[0],
                    verdict.perception_level or "",
                    values[1],
                    verdict.correspondence_level or "",
                    *values[2:],
                ]
                writer.writerow([*row, reasons, verdict.judge])
            for picture, reason in unreadable.items():
                writer.writerow([_name(picture), *[""] * (4 + len(questions)), reason, ""])
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.", hint="Choose another place with --out.") from error


def _name(path: Path) -> str:
    return whole_characters(str(path))


def _shown(score: "Score | Unscored", *, digits: int = 1) -> str:
    return f"{score.value:.{digits}f}" if hasattr(score, "value") else f"unscored ({harmless(score.reason)})"  # pyright: ignore
