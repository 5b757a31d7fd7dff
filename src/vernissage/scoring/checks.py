"""Questions about a picture whose right answers are known: GenEval's, TIFA's, DSG's, those of a prompt's own words.

Each asks one fact. An MLLM answers; who asks decides what the answers make: a share (TIFA), a share in which a fact counts only if
what it needs is there (DSG), all or nothing (GenEval), a product of probabilities (T2I-CompBench).
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from vernissage.errors import BadInput, VernissageError
from vernissage.ports import MLLM, Ask, Message, Reply
from vernissage.prompts import load_prompt
from vernissage.prompts.words import plural, with_article
from vernissage.records.verdict import Score, Unscored

YES_NO = ("yes", "no")
MOST_CHECKS = 40
"""Of a prompt: more are a sign of a rambling MLLM."""


class Check(NamedTuple):
    """A question with its right answer."""

    question: str
    expected: str = "yes"
    choices: tuple[str, ...] = YES_NO
    needs: tuple[int, ...] = ()
    """Checks, by place, without which this one makes no sense."""


class Checked(NamedTuple):
    """What an MLLM answered to a check."""

    likely: float
    """Probability of the right answer, in [0, 1]; 1 or 0 where the MLLM tells no probabilities."""
    right: bool


class WrittenCheck(BaseModel):
    """One question of `WrittenChecks`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str
    needs: list[int] = []


class WrittenChecks(BaseModel):
    """Answer to `scoring/questions`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    questions: list[WrittenCheck] = Field(min_length=1, max_length=MOST_CHECKS)


def share_right(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Share of right answers (TIFA, eq. 1), with the wrong ones as the reason.

    Example:
        >>> cat, red = Check("Is there a cat?"), Check("Is it red?", needs=(0,))
        >>> share_right([cat, red], [Checked(0.2, False), Checked(0.9, True)])
        Score(value=0.5, reason='wrong: Is there a cat?')
    """
    return _share(checks, [each.right for each in answers])


def share_with_needs(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Share of right answers, those whose needs are not met counted as wrong (DSG, section 3.2).

    Example:
        >>> cat, red = Check("Is there a cat?"), Check("Is it red?", needs=(0,))
        >>> share_with_needs([cat, red], [Checked(0.2, False), Checked(0.9, True)]).value
        0.0
    """
    return _share(checks, [each.right and all(answers[n].right for n in check.needs) for check, each in zip(checks, answers, strict=True)])


def all_right(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """1 if all answers are right, else 0 (GenEval)."""
    score = _share(checks, [each.right for each in answers])
    return Score(value=float(score.value == 1), reason=score.reason)


def product(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Product of the right answers' probabilities (T2I-CompBench, disentangled BLIP-VQA)."""
    return Score(value=float(np.prod([each.likely for each in answers])), reason=_share(checks, [each.right for each in answers]).reason)


def _share(checks: Sequence[Check], right: Sequence[bool]) -> Score:
    wrong = [check.question for check, each in zip(checks, right, strict=True) if not each]
    return Score(value=sum(right) / len(right), reason=f"wrong: {' '.join(wrong)}" if wrong else "all right")


# ------------------------------------------------------------------------------------------------------------- asking


def ask_checks(mllm: MLLM, cases: Sequence[tuple[Image.Image, Check]]) -> list[Checked | Unscored]:
    """An answer to each check, in order, all asked together; by probability where the MLLM tells it, else by its words."""
    found: dict[int, Checked | Unscored] = {}
    by_choices: dict[tuple[str, ...], list[int]] = {}
    for index, (_, check) in enumerate(cases):
        by_choices.setdefault(check.choices, []).append(index)
    for choices, rows in by_choices.items():
        asks = [_ask(mllm, *cases[row]) for row in rows]
        chosen = mllm.choose(asks, choices)
        expected = [choices.index(cases[row][1].expected) for row in rows]
        if any(isinstance(each, np.ndarray) for each in chosen):
            found |= {row: _by_probability(each, right) for row, each, right in zip(rows, chosen, expected, strict=True)}
        else:
            found |= {row: _by_words(reply, choices, right) for row, reply, right in zip(rows, mllm.answer(asks), expected, strict=True)}
    return [found[index] for index in range(len(cases))]


def _ask(mllm: MLLM, image: Image.Image, check: Check) -> Ask:
    if check.choices == YES_NO:
        text = load_prompt("judging/answer").render(brief=mllm.brief, question=check.question)
    else:
        text = load_prompt("scoring/choice").render(brief=mllm.brief, question=check.question, choices=list(check.choices))
    return Ask(messages=(Message(text=text, images=(image,)),), max_tokens=32)


def _by_probability(chances: np.ndarray | VernissageError, right: int) -> Checked | Unscored:
    if isinstance(chances, VernissageError):
        return Unscored(reason=str(chances))
    return Checked(float(np.clip(chances[right], 0, 1)), int(np.argmax(chances)) == right)


def _by_words(reply: Reply | VernissageError, choices: tuple[str, ...], right: int) -> Checked | Unscored:
    if isinstance(reply, VernissageError):
        return Unscored(reason=str(reply))
    said = reply.text.strip().strip(".,!*\"'").lower()
    named = [index for index, choice in enumerate(choices) if re.match(rf"{re.escape(choice.lower())}\b", said)]
    if len(named) != 1:
        return Unscored(reason=f"the answer is none of {', '.join(choices)}: {reply.text[:80]!r}")
    return Checked(float(named[0] == right), named[0] == right)


def write_checks(mllm: MLLM, prompts: Sequence[str]) -> list[tuple[Check, ...] | Unscored]:
    """Questions that an MLLM writes to each prompt; a small one is not asked, for what it wrote would mean nothing."""
    if mllm.brief:
        return [Unscored(reason=f"{mllm.name} is too small to write questions; give them with --questions")] * len(prompts)
    text = load_prompt("scoring/questions")
    asks = [Ask(messages=(Message(text=text.render(prompt=prompt)),), reply=WrittenChecks, max_tokens=2048) for prompt in prompts]
    return [_written(reply) for reply in mllm.answer(asks)]


def _written(reply: Reply | VernissageError) -> tuple[Check, ...] | Unscored:
    if isinstance(reply, VernissageError):
        return Unscored(reason=f"no questions could be had: {reply}")
    if not isinstance(reply.record, WrittenChecks):
        return Unscored(reason="no questions could be had: the MLLM wrote none")
    several = reply.record.questions
    return tuple(
        Check(each.question, needs=tuple(sorted({n - 1 for n in each.needs if 1 <= n <= len(several) and n - 1 != index})))
        for index, each in enumerate(several)
    )


# ------------------------------------------------------------------------------------------------- checks from elsewhere


def geneval_checks(metadata: Mapping[str, Any]) -> tuple[Check, ...]:
    """The questions of a row of GenEval's `evaluation_metadata.jsonl`.

    Example:
        >>> counted = {"include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]}
        >>> [check.question for check in geneval_checks(counted)]
        ['Are there exactly 2 dogs?']
        >>> red = {"include": [{"class": "bus", "count": 1, "color": "red"}, {"class": "cow", "count": 1, "position": ["left of", 0]}]}
        >>> [check.question for check in geneval_checks(red)]
        ['Is there a bus?', 'Is the bus red?', 'Is there a cow?', 'Is the cow left of the bus?']
    """
    include, exclude = metadata.get("include") or [], metadata.get("exclude") or []
    beyond = {each["class"]: int(each["count"]) for each in exclude}
    checks: list[Check] = []
    for each in include:
        name, count = each["class"], int(each.get("count", 1))
        exact = beyond.get(name) == count + 1
        if count == 1:
            checks.append(Check(f"Is there exactly one {name}?" if exact else f"Is there {with_article(name)}?"))
        else:
            checks.append(Check(f"Are there {'exactly' if exact else 'at least'} {count} {plural(name)}?"))
        if each.get("color"):
            checks.append(Check(f"Is the {name} {each['color']}?" if count == 1 else f"Are the {plural(name)} {each['color']}?"))
        if each.get("position"):
            how, other = each["position"]
            checks.append(Check(f"Is the {name} {how} the {include[int(other)]['class']}?"))
    named = {each["class"] for each in include}
    return (*checks, *(Check(f"Is there {with_article(name)}?", "no") for name in beyond if name not in named))


class Questions(NamedTuple):
    """Checks by what tells which picture they are for."""

    by_id: dict[str, tuple[Check, ...]]
    by_prompt: dict[str, tuple[Check, ...]]

    def find(self, name: str, prompt: str | None) -> tuple[Check, ...]:
        """Those of a picture, by its name without suffix, or by its prompt."""
        return self.by_id.get(Path(name).stem) or self.by_prompt.get((prompt or "").strip(), ())


def read_questions(path: Path) -> Questions:
    """Questions of a file: TIFA's JSON list, DSG's CSV, or JSONL of {"prompt" or "id", "questions": [{"question", …}]}.

    Raises:
        BadInput: It cannot be read or is none of these.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            found = _dsg(list(csv.DictReader(io.StringIO(text, newline=""))))
        elif path.suffix.lower() == ".jsonl":
            found = _own([json.loads(line) for line in text.split("\n") if line.strip()])
        else:
            found = _tifa(json.loads(text))
    except (OSError, UnicodeDecodeError, ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise BadInput(
            f"Cannot read questions from {path}: {error!r}.", hint="TIFA's JSON, DSG's CSV or JSONL; see docs/how-to/score.md."
        ) from error
    if not found.by_id and not found.by_prompt:
        raise BadInput(f"There are no questions in {path}.", hint="TIFA's JSON, DSG's CSV or JSONL; see docs/how-to/score.md.")
    return found


def _gathered(rows: Iterable[tuple[str, str, Check]]) -> Questions:
    by_id: dict[str, tuple[Check, ...]] = {}
    by_prompt: dict[str, tuple[Check, ...]] = {}
    for name, prompt, check in rows:
        for key, found in ((name, by_id), (prompt, by_prompt)):
            if key:
                found[key] = (*found.get(key, ()), check)
    return Questions(by_id, by_prompt)


def _tifa(rows: list[dict[str, Any]]) -> Questions:
    def check(row: dict[str, Any]) -> Check:
        choices = tuple(str(each) for each in row["choices"])
        if str(row["answer"]) not in choices:
            raise ValueError(f"the answer {row['answer']!r} is none of its choices")
        return Check(row["question"], str(row["answer"]), YES_NO if sorted(choices) == sorted(YES_NO) else choices)

    return _gathered((str(row.get("id", "")), str(row.get("caption", "")).strip(), check(row)) for row in rows)


def _dsg(rows: list[dict[str, str]]) -> Questions:
    """A row a question; `dependency` holds numbers of propositions with commas between, 0 for none."""
    found: list[tuple[str, str, Check]] = []
    places: dict[str, list[str]] = {}
    for row in rows:
        places.setdefault(row["item_id"], []).append(row.get("proposition_id") or str(len(places[row["item_id"]]) + 1))
    for row in rows:
        known = places[row["item_id"]]
        needs = [part.strip() for part in (row.get("dependency") or "").split(",")]
        asked = row.get("question") or row["question_natural_language"]
        check = Check(asked, needs=tuple(known.index(part) for part in needs if part in known))
        found.append((row["item_id"], (row.get("text") or "").strip(), check))
    return _gathered(found)


def _own(rows: list[dict[str, Any]]) -> Questions:
    found: list[tuple[str, str, Check]] = []
    for row in rows:
        for each in row["questions"]:
            choices = tuple(each.get("choices") or YES_NO)
            expected = each.get("answer", "yes")
            if expected not in choices:
                raise ValueError(f"the answer {expected!r} is none of its choices")
            needs = tuple(int(n) - 1 for n in each.get("needs", ()) if 1 <= int(n) <= len(row["questions"]))
            found.append(
                (str(row.get("id", "")), str(row.get("prompt", "")).strip(), Check(str(each["question"]), expected, choices, needs))
            )
    return _gathered(found)


_SPATIAL = {
    "on the left of": "to the left of",
    "to the left of": "to the left of",
    "left of": "to the left of",
    "on the right of": "to the right of",
    "to the right of": "to the right of",
    "right of": "to the right of",
    "on the top of": "on top of",
    "on top of": "on top of",
    "above": "above",
    "on the bottom of": "below",
    "below": "below",
    "under": "under",
    "in front of": "in front of",
    "behind": "behind",
    "next to": "next to",
    "on side of": "beside",
    "on the side of": "beside",
    "beside": "beside",
    "near": "near",
}
_RELATION = re.compile(rf"\b(?:is |are |was |were )?(?P<how>{'|'.join(sorted(_SPATIAL, key=len, reverse=True))})\b")
_PHRASE = re.compile(
    r"\b(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|\d+|some|several|his|her|its|their)\s+"
    r"(?:(?!(?:and|or|with|of|on|in|at|to|by|for|from|is|are|was|were|has|have|under|above|below|near|behind|beside|next|over|that|which|"
    r"while|as|into|an?|the)\b)[\w'-]+\s*)+"
)
_NO_THINGS = {"side", "left", "right", "top", "bottom", "front", "middle"}


def noun_phrases(prompt: str) -> list[str]:
    """Things of a prompt with their attributes, as T2I-CompBench asks for them one by one.

    Found by articles and numbers, without a parser: the benchmark's prompts are written so; where a prompt has none, it is asked whole.

    Example:
        >>> noun_phrases("a red car on the left of a blue wooden bench, and two small dogs")
        ['a red car', 'a blue wooden bench', 'two small dogs']
    """
    found = [match[0].strip() for match in _PHRASE.finditer(prompt)]
    kept = [each for each in found if each.split()[-1].lower() not in _NO_THINGS]
    return kept or [prompt.strip().rstrip(".")]


def attribute_checks(prompt: str) -> tuple[Check, ...]:
    """A check for each noun phrase, worded as T2I-CompBench does: the phrase and a question mark."""
    return tuple(Check(f"{phrase}?") for phrase in noun_phrases(prompt))


def spatial_checks(prompt: str) -> tuple[Check, ...]:
    """A check for each spatial relation between two noun phrases.

    Example:
        >>> spatial_checks("a dog on the right of a red car")
        (Check(question='Is a dog to the right of a red car?', expected='yes', choices=('yes', 'no'), needs=()),)
    """
    checks: list[Check] = []
    for match in _RELATION.finditer(prompt):
        before, after = _PHRASE.findall(prompt[: match.start()]), _PHRASE.search(prompt[match.end() :])
        if before and after:
            checks.append(Check(f"Is {before[-1].strip()} {_SPATIAL[match['how']]} {after[0].strip()}?"))
    return tuple(checks)
