"""`vernissage judge`: verdicts on pictures, as a table or CSV."""

import glob
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import config_option, harmless, named
from vernissage.cli.show import check_folder
from vernissage.errors import BadInput
from vernissage.processes import work_at
from vernissage.records.files import append_lines, write_whole
from vernissage.records.picture import find_pictures
from vernissage.records.plan import whole_characters
from vernissage.records.table import check_table, write_table
from vernissage.records.verdict import NO_PROMPT, Score

if TYPE_CHECKING:
    from vernissage.api import Studio
    from vernissage.records.verdict import Unscored, Verdict


CHUNK = 64
"""Pictures that are read, judged and written down together."""
FIRST, LAST = ("image", "perception", "perception_level", "correspondence", "correspondence_level"), ("unscored", "judge")
"""Columns of the table of verdicts; between them is one for each question."""
_ELSEWHERE = "Choose another place with --out."


@click.command(name="judge")
@click.argument("pictures", nargs=-1)
@click.option("--prompt", help="What every picture should show; default: the prompt that each picture carries.")
@click.option("--prompts", type=click.Path(path_type=Path), help="CSV or JSONL with image and prompt, or a text file with a prompt a line.")
@click.option("--ask", "questions", multiple=True, help="A yes/no question about every picture; may be given several times.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the verdicts to this file, CSV or JSONL by its ending.")
@config_option
def command(
    pictures: tuple[str, ...], prompt: str | None, prompts: Path | None, questions: tuple[str, ...], out: Path | None, config: Path | None
) -> None:
    """Judge PICTURES: files, folders, or patterns such as "run/*.png".

    Perception is how good a picture looks, correspondence how well it shows what it should, both 0 to 100. The mini judge was
    trained on synthetic ratings of mini pictures and knows no others; for real pictures configure a trained judge, or a language
    model, whose scores compare with one another and not with people's. With --out, what was judged before a run was cut off is kept.

    \b
    vernissage judge stars.png --ask "Is there a star?"
    vernissage judge pictures/ --prompts prompts.csv --out verdicts.csv
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import beside_the_bar, progress_bar
    from vernissage.cli.studio import open_studio

    if any(not question.strip() for question in questions):
        raise BadInput("A question is empty.", hint='Ask like --ask "Is there a cat?".')
    questions = tuple(dict.fromkeys(questions))
    if taken := sorted({*FIRST, *LAST} & set(questions)):
        raise BadInput(f"{taken[0]!r} is a column of the table of verdicts.", hint="Ask a whole question.")
    if prompt and prompts:
        raise BadInput("Both one prompt for all and a file of prompts are given.", hint="Leave out --prompt or --prompts.")
    paths = listed(pictures)
    prompt = whole_characters(prompt) if prompt else prompt
    said = [prompt] * len(paths) if prompt and prompt.strip() else read_prompts(prompts, paths) if prompts else None
    if out:
        check_folder(out.parent)
        if out.is_dir():
            raise BadInput(f"{out} is a folder.", hint="Name a file with --out, such as verdicts.csv.")
        check_table(out, forms=(".csv", ".jsonl"))
    studio = open_studio(config)
    journal = Journal(out, [studio.identities["judge"], bool(said), list(questions)])
    found: dict[Path, Verdict | str] = {}
    with progress_bar("judging") as progress:
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            found |= judge_some(studio, part, said[start : start + CHUNK] if said else None, questions, journal)
            with beside_the_bar():
                for path in part:
                    for line in shown_lines(path, found[path]):
                        click.echo(line, err=isinstance(found[path], str))
            progress(min(start + CHUNK, len(paths)), len(paths))
    judges = list(dict.fromkeys(verdict.judge for verdict in found.values() if not isinstance(verdict, str)))
    if not judges:
        raise BadInput("None of the pictures can be read.", hint="See above for the reasons.")
    unreadable = sum(isinstance(verdict, str) for verdict in found.values())
    verdicts = [verdict for verdict in found.values() if not isinstance(verdict, str)]
    scored = _scored(verdicts)
    told = ", ".join(f"{name} {count}/{asked}" for name, (count, asked) in scored.items() if asked)
    click.echo(f"{len(verdicts)}/{len(paths)} judged by {', '.join(judges)}: {told}", err=True)
    if out:
        if out.suffix.lower() == ".jsonl":
            write_lines(out, found)
        else:
            write_verdicts(out, found, questions)
        journal.remove()
        click.echo(named(out))
    if unreadable or not any(count for count, _ in scored.values()):
        sys.exit(1)


def _scored(verdicts: "Sequence[Verdict]") -> dict[str, tuple[int, int]]:
    """How many scores there are of how many that were asked for, by what is scored."""
    said = {
        "perception": [verdict.perception for verdict in verdicts],
        "correspondence": [verdict.correspondence for verdict in verdicts],
        "answers": [answer.yes for verdict in verdicts for answer in verdict.answers],
    }
    return {
        name: (sum(isinstance(each, Score) for each in several), sum(each != NO_PROMPT for each in several))
        for name, several in said.items()
    }


class Journal:
    """Verdicts as they come, beside the file that they will go to, so that a run that is cut off loses none.

    Args:
        out: That file; without one nothing is written.
        settings: What verdicts depend on besides picture and prompt; another run's do not count.
    """

    def __init__(self, out: Path | None, settings: object) -> None:
        self._path = out.with_name(f"{out.name}.part") if out else None
        self._place = work_at(out) if out else None
        self._settings = json.dumps(settings, sort_keys=True, default=str)
        from vernissage.records.verdict import Verdict

        self._known: dict[str, Verdict] = {}
        if self._path and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n"):
                key, _, verdict = line.partition(" ")
                with suppress(ValueError):  # a line may be cut off
                    self._known[key] = Verdict.model_validate_json(verdict)

    def key(self, data: bytes, prompt: str | None) -> str:
        """Hash of this picture with this prompt."""
        return hashlib.blake2b(json.dumps([self._settings, prompt]).encode() + data, digest_size=16).hexdigest()

    def find(self, key: str) -> "Verdict | None":
        """The verdict of an earlier run."""
        return self._known.get(key)

    def add(self, verdicts: "dict[str, Verdict]") -> None:
        """Write down what was judged.

        Raises:
            BadInput: The file cannot be written.
        """
        if self._path is None or not verdicts:
            return
        append_lines(self._path, (f"{key} {verdict.model_dump_json()}" for key, verdict in verdicts.items()), hint=_ELSEWHERE)

    def remove(self) -> None:
        """All is in the file itself."""
        if self._path:
            self._path.unlink(missing_ok=True)


def judge_some(
    studio: "Studio", paths: list[Path], prompts: Sequence[str | None] | None, questions: tuple[str, ...], journal: Journal
) -> "dict[Path, Verdict | str]":
    """The verdict on each picture, from the journal where it is there, or why it cannot be read."""
    from vernissage.errors import UserError
    from vernissage.records.picture import Picture

    found: dict[Path, Verdict | str] = {}
    new: dict[Path, tuple[str, Picture, str | None]] = {}
    for index, path in enumerate(paths):
        try:
            picture = Picture.open(path)
        except UserError as error:
            found[path] = str(error)
            continue
        said = prompts[index] if prompts else None
        key = journal.key(picture.data, said)
        if (known := journal.find(key)) is not None:
            found[path] = known
        else:
            new[path] = key, picture, said
    if new:
        pictures, said = [picture for _, picture, _ in new.values()], [prompt for *_, prompt in new.values()]
        verdicts = studio.judge_several(pictures, prompts=said if prompts else (), questions=questions)
        journal.add({key: verdict for (key, *_), verdict in zip(new.values(), verdicts, strict=True) if not _failed(verdict)})
        found |= dict(zip(new, verdicts, strict=True))
    return {path: found[path] for path in paths}


def _failed(verdict: "Verdict") -> bool:
    """Whether something that was asked for could not be had, and may be had by the next run."""
    from vernissage.records.verdict import is_passing

    return any(map(is_passing, [verdict.perception, verdict.correspondence, *(answer.yes for answer in verdict.answers)]))


def shown_lines(path: Path, verdict: "Verdict | str") -> Iterator[str]:
    """A verdict as lines for people."""
    if isinstance(verdict, str):
        yield f"{_name(path)}: unscored: {harmless(verdict)}"
        return
    scores = (
        ("perception", verdict.perception, verdict.perception_level),
        ("correspondence", verdict.correspondence, verdict.correspondence_level),
    )
    yield f"{_name(path)}: " + ", ".join(f"{name} {_shown(score)}" + (f" ({level})" if level else "") for name, score, level in scores)
    for answer in verdict.answers:
        yield f"  {harmless(answer.question)}  yes {_shown(answer.yes, digits=3)}"


def listed(given: tuple[str, ...]) -> list[Path]:
    """Files, the pictures in folders, and what patterns match, each once.

    Raises:
        BadInput: Nothing was given, or nothing is there.
    """
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            found += find_pictures(path)
        elif glob.has_magic(text) and not path.exists():
            found += sorted(Path(each) for each in glob.glob(text, recursive=True))
        else:
            found.append(path)
    if not found:
        raise BadInput("There are no pictures to judge.", hint="Name files, folders, or patterns in quotes.")
    return list(dict.fromkeys(found))


def read_prompts(path: Path, pictures: list[Path]) -> list[str | None]:
    """The prompt of each picture, None where the file has none for it; as `score` reads them.

    Raises:
        BadInput: The file cannot be read, or does not fit the pictures.
    """
    from vernissage.scoring.layouts import Entry, with_prompts

    return [entry.prompt or None for entry in with_prompts([Entry(str(picture), picture) for picture in pictures], path)]


def write_lines(path: Path, found: "dict[Path, Verdict | str]") -> None:
    """Verdicts as JSONL: a picture a line, with its verdict, or `unscored` with the reason.

    Raises:
        BadInput: The file cannot be written.
    """
    lines = []
    for picture, verdict in found.items():
        values = {"unscored": verdict} if isinstance(verdict, str) else verdict.model_dump(mode="json")
        lines.append(json.dumps({"image": _name(picture), **values}, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines), hint=_ELSEWHERE)


def write_verdicts(path: Path, found: "dict[Path, Verdict | str]", questions: tuple[str, ...]) -> None:
    """Verdicts as CSV: empty where unscored, with the reason in a column of its own.

    Raises:
        BadInput: The file cannot be written.
    """
    rows = []
    for picture, verdict in found.items():
        row = dict[str, object].fromkeys([*FIRST, *questions, *LAST], "") | {"image": _name(picture)}
        if isinstance(verdict, str):
            rows.append(row | {"unscored": verdict})
            continue
        scores = {"perception": verdict.perception, "correspondence": verdict.correspondence}
        levels = {"perception_level": verdict.perception_level or "", "correspondence_level": verdict.correspondence_level or ""}
        scores |= dict(zip(questions, (answer.yes for answer in verdict.answers), strict=True))
        reasons = "; ".join(dict.fromkeys(score.reason for score in scores.values() if not hasattr(score, "value")))
        values = {name: getattr(score, "value", "") for name, score in scores.items()}
        rows.append(row | values | levels | {"unscored": reasons, "judge": verdict.judge})
    write_table(path, rows)


def _name(path: Path) -> str:
    return whole_characters(str(path))


def _shown(score: "Score | Unscored", *, digits: int = 1) -> str:
    return f"{score.value:.{digits}f}" if hasattr(score, "value") else f"unscored ({harmless(score.reason)})"  # pyright: ignore
