"""Checks that come with pictures or in files: GenEval's metadata, TIFA's JSON, DSG's CSV, one's own JSONL."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, TypeAdapter, model_validator

from vernissage.errors import BadInput
from vernissage.prompts.words import ask_for, plural
from vernissage.records.plan import whole_characters
from vernissage.records.table import read_csv
from vernissage.scoring.checks import YES_NO, Check


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return whole_characters(text)


def _as_text(value: object) -> object:
    """Numbers as the texts they stand for."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Said = Annotated[StrictStr, AfterValidator(_said)]
Named = Annotated[StrictStr, BeforeValidator(lambda value: "" if value is None else _as_text(value)), AfterValidator(whole_characters)]
Choice = Annotated[Said, BeforeValidator(_as_text)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


# -------------------------------------------------------------------------------------------------------------- GenEval


class _Position(NamedTuple):
    how: Said
    other: Annotated[int, Field(ge=0)]


class Wanted(_Row):
    """Things that a picture must show."""

    name: Said = Field(alias="class")
    count: int = Field(default=1, ge=1)
    color: Annotated[Said | None, BeforeValidator(lambda value: value or None)] = None
    position: Annotated[_Position | None, BeforeValidator(lambda value: value or None)] = None
    """Such as ("left of", 0): where they are, seen from the things of that place in the list."""


class Excluded(_Row):
    """Things that must be there fewer times than that."""

    name: Said = Field(alias="class")
    count: int = Field(ge=1)


class Metadata(_Row):
    """A row of GenEval's `evaluation_metadata.jsonl`: what must be in a picture, and what must not."""

    tag: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")] = ""
    include: Annotated[tuple[Wanted, ...], BeforeValidator(lambda value: value or ())] = ()
    exclude: Annotated[tuple[Excluded, ...], BeforeValidator(lambda value: value or ())] = ()

    @model_validator(mode="after")
    def _placed(self) -> Self:
        for each in self.include:
            if each.position and each.position.other >= len(self.include):
                raise ValueError(f"the position of {each.name} is told by thing {each.position.other}, and there are {len(self.include)}")
        return self


def geneval_checks(row: Metadata) -> tuple[Check, ...]:
    """The questions of a row of GenEval's metadata.

    What is excluded must be there fewer times than its count, as GenEval's own evaluation has it.

    Example:
        >>> counted = {"include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]}
        >>> [check.question for check in geneval_checks(Metadata.model_validate(counted))]
        ['Are there exactly 2 dogs?']
        >>> red = {"include": [{"class": "bus", "count": 1, "color": "red"}, {"class": "cow", "count": 1, "position": ["left of", 0]}]}
        >>> [check.question for check in geneval_checks(Metadata.model_validate(red))]
        ['Is there a bus?', 'Is the bus red?', 'Is there a cow?', 'Is the cow left of the bus?']
    """
    beyond = {(each.name, each.count) for each in row.exclude}
    checks: list[Check] = []
    for each in row.include:
        exact = (each.name, each.count + 1) in beyond
        beyond.discard((each.name, each.count + 1))
        if each.count == 1:
            checks.append(Check(f"Is there exactly one {each.name}?" if exact else ask_for(each.name)))
        else:
            checks.append(Check(f"Are there {'exactly' if exact else 'at least'} {each.count} {plural(each.name)}?"))
        if each.color:
            checks.append(Check(f"Is the {each.name} {each.color}?" if each.count == 1 else f"Are the {plural(each.name)} {each.color}?"))
        if each.position:
            checks.append(Check(f"Is the {each.name} {each.position.how} the {row.include[each.position.other].name}?"))
    for each in row.exclude:
        if (each.name, each.count) in beyond:
            checks.append(Check(ask_for(each.name) if each.count == 1 else f"Are there at least {each.count} {plural(each.name)}?", "no"))
    return tuple(checks)


# ---------------------------------------------------------------------------------------------------------------- files


class Questions(NamedTuple):
    """Checks by what tells which picture they are for."""

    by_id: dict[str, tuple[Check, ...]]
    by_prompt: dict[str, tuple[Check, ...]]

    def named(self, name: str) -> tuple[Check, ...]:
        """Those of a picture by its name: path below the folder or name alone, with or without suffix."""
        path = PurePosixPath(name)
        keys = (name, str(path.with_suffix("")) if path.name else name, path.name, path.stem)
        return next((self.by_id[key] for key in keys if key in self.by_id), ())

    def find(self, name: str, prompt: str | None) -> tuple[Check, ...]:
        """Those of a picture, by its name or by its prompt."""
        return self.named(name) or self.by_prompt.get((prompt or "").strip(), ())


class _Group(NamedTuple):
    """Checks that stand together; their needs count among themselves."""

    name: str
    prompt: str
    checks: Sequence[Check]


def read_questions(path: Path) -> Questions:
    """Questions of a file: TIFA's JSON list, DSG's CSV, or JSONL of {"prompt" or "id", "questions": [{"question", …}]}.

    Raises:
        BadInput: It cannot be read or is none of these.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            groups = _dsg([row for _, row in read_csv(path, "questions")])
        elif path.suffix.lower() == ".jsonl":
            groups = [_own(_Own.model_validate(json.loads(line))) for line in text.split("\n") if line.strip()]
        else:
            groups = [_tifa(row) for row in TypeAdapter(list[_Tifa]).validate_python(json.loads(text))]
    except (OSError, UnicodeDecodeError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()[:40])
        raise BadInput(
            f"Cannot read questions from {path}: {reason}.", hint="TIFA's JSON, DSG's CSV or JSONL: docs/how-to/score.md."
        ) from error
    found = _gathered(groups)
    if not found.by_id and not found.by_prompt:
        raise BadInput(f"There are no questions in {path}.", hint="TIFA's JSON, DSG's CSV or JSONL: docs/how-to/score.md.")
    return found


def _gathered(groups: Iterable[_Group]) -> Questions:
    by_id: dict[str, tuple[Check, ...]] = {}
    by_prompt: dict[str, tuple[Check, ...]] = {}
    for name, prompt, checks in groups:
        for key, found in ((name.strip(), by_id), (prompt.strip(), by_prompt)):
            if key and checks:
                before = found.get(key, ())
                found[key] = (*before, *(each._replace(needs=tuple(len(before) + n for n in each.needs)) for each in checks))
    return Questions(by_id, by_prompt)


class _Tifa(_Row):
    id: Named = ""
    caption: Named = ""
    question: Said
    choices: list[Choice]
    answer: Choice


def _tifa(row: _Tifa) -> _Group:
    return _Group(row.id, row.caption, (_check(row.question, row.answer, row.choices),))


def _check(question: str, answer: str, choices: Sequence[str], needs: Sequence[int] = ()) -> Check:
    several = tuple(dict.fromkeys(choices))
    if answer not in several:
        raise ValueError(f"the answer {answer!r} to {question!r} is none of its choices")
    return Check(question, answer, YES_NO if sorted(several) == sorted(YES_NO) else several, tuple(needs))


class _Dsg(_Row):
    item_id: Named
    text: Named = ""
    proposition_id: Named = ""
    dependency: Named = ""
    question: Named = ""
    question_natural_language: Named = ""


def _dsg(rows: Sequence[Mapping[str, Any]]) -> list[_Group]:
    """A row a question; `dependency` holds numbers of propositions with commas between, 0 for none."""
    together: dict[str, list[_Dsg]] = {}
    for row in TypeAdapter(list[_Dsg]).validate_python(rows):
        together.setdefault(row.item_id or row.text, []).append(row)
    groups = []
    for several in together.values():
        numbers = [row.proposition_id.strip() or str(place) for place, row in enumerate(several, start=1)]
        checks = []
        for row in several:
            needs = [numbers.index(part) for each in row.dependency.split(",") if (part := each.strip()) in numbers]
            checks.append(Check(_said(row.question or row.question_natural_language), needs=tuple(needs)))
        groups.append(_Group(several[0].item_id, several[0].text, checks))
    return groups


class _OwnQuestion(_Row):
    question: Said
    answer: Said = "yes"
    choices: list[Said] = list(YES_NO)
    needs: list[int] = []


class _Own(_Row):
    id: Named = ""
    prompt: Named = ""
    questions: list[_OwnQuestion]


def _own(row: _Own) -> _Group:
    checks = [
        _check(each.question, each.answer, each.choices, [n - 1 for n in each.needs if 1 <= n <= len(row.questions)])
        for each in row.questions
    ]
    return _Group(row.id, row.prompt, checks)
