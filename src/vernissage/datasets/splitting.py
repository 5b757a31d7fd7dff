"""Splitting queries into training and test set: of each model the most distinct ones are tested, those that read like people's.

References:
    ChatGen (arXiv 2411.17176), ChatGenBench: about 20 % a model, the most distinct by BERTScore; then filters by length, number of
    turns, colloquialism and a language model's judgement, and a look by people.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from vernissage.datasets.queries import Query
from vernissage.errors import BadInput, ReplyError, VernissageError
from vernissage.metrics.bert_score import TokenFeatures, match_tokens
from vernissage.ports import MLLM, Ask, Message, Progress, Reply, Tagger, TextEncoder
from vernissage.prompts import load_prompt
from vernissage.records.table import read_csv

WORDS = (3, 60)
"""Words that a request may have."""
TURNS = 7
SHARE = 0.2
LEAST_COLLOQUIAL = 0.05
EXACT = 200
"""Queries of a model that are compared pair by pair; of more, as many others are drawn for each."""
_SPOKEN = frozenset(("PRON", "AUX", "PART", "INTJ"))
# People's words and not a prompt's: they speak of themselves, ask, shorten and add particles.
_COLLOQUIAL = frozenset(
    word
    for line in (
        "i i'm i'd i'll i've me my mine we us our you your can could would please pls plz thanks thx hey hi hello hmm uh um oh yo yeah ok",
        "okay like just maybe kinda sorta gonna wanna gotta lemme really so well nice cool it's that's let's don't can't want need make",
        "give get show something some what how is are do does y'all ya folks guys lol arr aye",
    )
    for word in line.split()
)


class Split(NamedTuple):
    """The two sets, and how many candidates for the test set were kept in training for which reason."""

    train: list[Query]
    test: list[Query]
    returned: dict[str, int]
    unjudged: int = 0
    """Candidates of which the language model that was asked gave no usable judgement; they stay."""


class IsRequest(BaseModel):
    """What a language model answers to the prompt `painting/is_request`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str = ""
    natural: bool


def words_of(query: Query) -> list[str]:
    """What the user said, all turns, in lower-case words."""
    text = " ".join(turn.text for turn in query.chat.turns if turn.role == "user")
    return re.findall(r"[\w']+", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def colloquialism(query: Query, tagger: Tagger | None = None) -> float:
    """The share of words that people use and prompts do not, in [0, 1].

    By parts of speech where a tagger is given: pronouns, auxiliaries, particles and interjections, of which prompts have hardly any.
    Else by a list of words, which needs no model. The paper uses spaCy and does not say how.

    Example:
        >>> from vernissage.records.chat import Chat
        >>> from vernissage.records.plan import Plan
        >>> def said(text): return Query(id="1", chat=Chat.of(text), plan=Plan(prompt="x", model="m"))
        >>> colloquialism(said("can you make me a cat?")) > 0.5, colloquialism(said("cat, masterpiece, 8k"))
        (True, 0.0)
    """
    if tagger is None:
        spoken = [word in _COLLOQUIAL for word in words_of(query)]
    else:
        turns = tagger([turn.text for turn in query.chat.turns if turn.role == "user"])
        spoken = [part in _SPOKEN for turn in turns for _, part in turn if part != "PUNCT"]
    return sum(spoken) / len(spoken) if spoken else 0.0


def split_queries(
    queries: Sequence[Query],
    encoder: TextEncoder,
    *,
    share: float = SHARE,
    mllm: MLLM | None = None,
    colloquial: float = LEAST_COLLOQUIAL,
    tagger: Tagger | None = None,
    progress: Progress | None = None,
) -> Split:
    """Choose the test set; every query of the same demonstration and model stays on one side.

    Args:
        queries: All.
        encoder: Whose features say how distinct a query is.
        share: Of each model's queries, rounded down, so that a model with few is only trained on.
        mllm: Asked whether a candidate reads like a person's request; nobody is where left out.
        colloquial: Least share of people's words, see `colloquialism`.
        tagger: Tells people's words by their parts of speech; a list of words does where left out.
        progress: Called with (done, total) models.
    """
    by_model: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        by_model.setdefault(query.plan.model, []).append(row)
    candidates: list[int] = []
    for done, rows in enumerate(by_model.values(), start=1):
        candidates += _most_distinct(queries, rows, math.floor(share * len(rows) + 1e-9), encoder)
        if progress:
            progress(done, len(by_model))
    reasons = {row: reason for row in candidates if (reason := _unfit(queries[row], colloquial, tagger))}
    left = [row for row in candidates if row not in reasons]
    said = _judged([queries[row] for row in left], mllm)
    reasons |= {row: "a language model finds it unnatural" for row, natural in zip(left, said, strict=True) if natural is False}
    tested = {row for row in candidates if row not in reasons}
    # What was made from a tested demonstration would give its plan away.
    given_away = {queries[row].demonstration for row in tested if queries[row].demonstration}
    train = [
        query for row, query in enumerate(queries) if row not in tested and not (query.demonstration and query.demonstration in given_away)
    ]
    returned = Counter(reasons.values())
    if gone := len(queries) - len(tested) - len(train):
        returned["in neither set: made from a tested demonstration"] = gone
    unjudged = said.count(None) if mllm else 0
    return Split(train, [query for row, query in enumerate(queries) if row in tested], dict(returned), unjudged)


def _most_distinct(queries: Sequence[Query], rows: Sequence[int], count: int, encoder: TextEncoder) -> list[int]:
    """At most `count` of these queries, whole demonstrations at a time, those first whose queries are on average the most distinct."""
    if not count:
        return []
    distinct = dict(zip(rows, _distinctness([" ".join(words_of(queries[row])) for row in rows], encoder), strict=True))
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(queries[row].demonstration or f"\0{row}", []).append(row)
    chosen: list[int] = []
    for group in sorted(groups.values(), key=lambda group: -sum(distinct[row] for row in group) / len(group)):
        if len(chosen) + len(group) <= count:
            chosen += group
    return chosen


def _unfit(query: Query, colloquial: float, tagger: Tagger | None) -> str:
    """Why a query is not for testing; empty where it is."""
    if not WORDS[0] <= len(words_of(query)) <= WORDS[1]:
        return f"not {WORDS[0]} to {WORDS[1]} words"
    if len(query.chat.turns) > TURNS:
        return f"more than {TURNS} turns"
    if colloquialism(query, tagger) < colloquial:
        return "reads like a prompt"
    return ""


def _distinctness(texts: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    """One minus the highest BERTScore F with another text, shape (text,)."""
    features = [TokenFeatures(*each) for each in encoder.encode_tokens(texts)]
    rng = np.random.default_rng(0)
    highest = np.full(len(texts), -1.0)
    for row, own in enumerate(features):
        others = range(len(texts)) if len(texts) <= EXACT else rng.integers(len(texts), size=EXACT).tolist()
        highest[row] = max((match_tokens(own, features[other]).f for other in others if other != row), default=-1.0)
    return 1 - highest


def _judged(queries: Sequence[Query], mllm: MLLM | None) -> list[bool | None]:
    """Whether a language model finds each natural; None where it was not asked or gave no usable reply.

    Raises:
        VernissageError: It gave no answer at all.
    """
    if mllm is None or not queries:
        return [None] * len(queries)
    prompt = load_prompt("painting/is_request")
    asks = [
        Ask(messages=(Message(text=prompt.render(brief=mllm.brief, turns=query.chat.turns, prompt=query.plan.prompt)),), reply=IsRequest)
        for query in queries
    ]
    replies = mllm.answer(asks)
    gone = [reply for reply in replies if isinstance(reply, VernissageError) and not isinstance(reply, ReplyError)]
    if len(gone) == len(replies):
        raise gone[0]
    said = [reply.record if isinstance(reply, Reply) else None for reply in replies]
    return [record.natural if isinstance(record, IsRequest) else None for record in said]


def write_review(queries: Sequence[Query], path: Path, decisions: Mapping[str, bool] = MappingProxyType({})) -> None:
    """A CSV for people to look through: they write no into the column `keep` of what should go.

    Args:
        queries: To be looked at, those that were refused before among them.
        path: Of the CSV.
        decisions: What people have decided already, by id.

    Raises:
        BadInput: It cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "keep", "request", "prompt", "model", "role"])
            for query in queries:
                said = " / ".join(f"{turn.role}: {turn.text}" if len(query.chat.turns) > 1 else turn.text for turn in query.chat.turns)
                keep = "yes" if decisions.get(query.id, True) else "no"
                rows.writerow(map(_as_text, [query.id, keep, said, query.plan.prompt, query.plan.model, query.role]))
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.", hint="Choose another folder.") from error


def read_review(path: Path) -> dict[str, bool]:
    """What people want to keep, by id.

    Raises:
        BadInput: It cannot be read, lacks a column, or a decision is neither yes nor no.
    """
    decisions = {"yes": True, "y": True, "1": True, "no": False, "n": False, "0": False}
    found = {}
    for line, row in read_csv(path, "reviewed queries", ("id", "keep")):
        said = (row.get("keep") or "").strip().lower()
        if not row.get("id") or said not in decisions:
            raise BadInput(f"{path}, line {line}: keep must be yes or no, not {said!r}.", hint="Mend that line.")
        name = row["id"]
        found[name[1:] if name[:1] == "'" and _is_formula(name) else name] = decisions[said]
    return found


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: what people type may begin with an equals sign."""
    return f"'{cell}" if _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    return cell.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r"))
