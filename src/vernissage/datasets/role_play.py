"""Role-play: demonstrations become freestyle requests, as people of many walks of life would type them (ChatGenBench).

Every request is kept as soon as it is written, so a set that was cut off is resumed.
"""

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.datasets.collect import Collected
from vernissage.datasets.queries import Query, append_queries, resume_queries
from vernissage.errors import BadInput, DriverError, RateLimited, ReplyError, VernissageError, reason_of
from vernissage.ports import MLLM, Ask, Message, Progress, Reply
from vernissage.processes import work_at
from vernissage.prompts import load_prompt
from vernissage.records.chat import INPUT_TYPE_SHARES, Chat, InputType, Turn
from vernissage.records.demonstration import Demonstration
from vernissage.records.files import write_whole
from vernissage.records.plan import Text

ROLES = Path(__file__).with_name("roles.toml")
TEMPERATURE = 0.9  # ChatGen (arXiv 2411.17176), section on ChatGenBench
BATCH = 32
FEWEST = 8
"""Failures together, without a single answer, after which a language model counts as gone."""
WORDS_A_REPLY = 60
"""For the estimate: what a short dialogue takes on average."""
TOKENS_A_CHARACTER = 0.25


class SaidTurn(BaseModel):
    """A turn of a role-played chat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant"] = "user"
    text: Text = Field(min_length=1)


class RolePlayReply(BaseModel):
    """What a language model answers to the prompt `painting/role_play`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    turns: tuple[SaidTurn, ...] = Field(min_length=1)


class Task(NamedTuple):
    """One request to write."""

    id: str
    demonstration: Demonstration
    role: str
    form: InputType
    mllm: str


class Estimate(NamedTuple):
    """What a role-play will take."""

    calls: int
    input_tokens: int
    output_tokens: int

    def cost(self, input_price: float, output_price: float) -> float:
        """In the currency of the prices, which are for a million tokens."""
        return (self.input_tokens * input_price + self.output_tokens * output_price) / 1e6


def load_roles(path: Path = ROLES) -> tuple[str, ...]:
    """The roles of a TOML file with a list `roles`.

    Raises:
        BadInput: It cannot be read, or holds no such list.
    """
    try:
        roles = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("roles")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"Cannot read the roles {path}: {reason_of(error)}.", hint="It must be TOML with a list `roles`.") from error
    if not isinstance(roles, list) or not roles or not all(isinstance(role, str) and role.strip() for role in roles):
        raise BadInput(f"{path} holds no list `roles` of texts.", hint='Write roles = ["a baker", …].')
    return tuple(roles)


def plan_tasks(
    demonstrations: Sequence[Demonstration], mllms: Sequence[str], roles: Sequence[str], *, each: int = 5, seed: int = 0
) -> list[Task]:
    """Which requests to write: for each demonstration `each`, by different roles, forms as frequent as in ChatGenBench.

    A demonstration whose picture does not lie here is asked about without a picture.
    """
    tasks = []
    for demonstration in demonstrations:
        rng = np.random.default_rng([seed % 2**63, int.from_bytes(hashlib.sha256(demonstration.id.encode()).digest()[:8], "big")])
        for number, place in enumerate(rng.permutation(len(roles))[:each]):
            form = list(INPUT_TYPE_SHARES)[rng.choice(3, p=list(INPUT_TYPE_SHARES.values()))]
            if form == "multimodal" and not _lies_here(demonstration.picture):
                form = "single"
            tasks.append(Task(f"{demonstration.id}#{number}", demonstration, roles[int(place)], form, mllms[int(rng.integers(len(mllms)))]))
    return tasks


def estimate(tasks: Sequence[Task], descriptions: Mapping[str, str]) -> Estimate:
    """What these requests will take, by the length of their questions; a token is taken for four characters."""
    asked = sum(len(_question(task, descriptions, brief=False)) for task in tasks)
    said = len(tasks) * WORDS_A_REPLY * 1.5
    return Estimate(len(tasks), round(asked * TOKENS_A_CHARACTER), round(said))


def role_play(
    tasks: Sequence[Task], mllms: Mapping[str, MLLM], out: Path, *, descriptions: Mapping[str, str], progress: Progress | None = None
) -> Collected:
    """Write requests into a JSONL file of queries.

    Args:
        tasks: See `plan_tasks`.
        mllms: Who plays, by the names that the tasks use.
        out: What is there already is not asked for again.
        descriptions: Of models, by id; those without one are described by their name alone.
        progress: Called with (done, total) requests.

    Raises:
        BadInput: The file cannot be read or written, or another process writes it.
        DriverError: A language model could not be had for a whole batch; what was made is kept.
        RateLimited: Likewise.
    """
    _place = work_at(out)
    known = resume_queries(out)
    left = [task for task in tasks if task.id not in known]
    dropped: Counter[str] = Counter()
    done, failed = len(tasks) - len(left), None
    for start in range(0, len(left), BATCH):
        batch = left[start : start + BATCH]
        made: dict[str, Query | str] = {}
        for name in dict.fromkeys(task.mllm for task in batch):
            own = [task for task in batch if task.mllm == name]
            asks = [_ask(task, descriptions, mllms[name].brief) for task in own]
            replies = mllms[name].answer(asks)
            if len(replies) >= FEWEST and all(isinstance(reply, DriverError | RateLimited) for reply in replies):
                failed = next(reply for reply in replies if isinstance(reply, VernissageError))
            made |= {task.id: _query(task, reply) for task, reply in zip(own, replies, strict=True)}
        found = [made[task.id] for task in batch]
        dropped.update(each for each in found if isinstance(each, str))
        append_queries(out, [each for each in found if isinstance(each, Query)])
        if failed is not None:
            raise failed
        known |= {each.id for each in found if isinstance(each, Query)}
        done += len(batch)
        if progress:
            progress(done, len(tasks))
    return Collected(len(known), dict(dropped))


def keep_settings(out: Path, settings: Mapping[str, object]) -> None:
    """Remember beside a file of queries what decided who asks for what, and refuse to go on with others.

    Raises:
        BadInput: The file was begun with other settings, or cannot be written.
    """
    path = out.with_name(f"{out.name}.settings")
    try:
        if out.exists() and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in settings if not isinstance(kept, dict) or kept.get(name) != settings[name]]
            if changed:
                raise BadInput(f"{out} was begun with other settings: {', '.join(changed)}.", hint="Choose another file with --out.")
            return
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"Cannot use {path}: {reason_of(error)}.", hint="Choose another file with --out.") from error
    write_whole(path, json.dumps(settings), hint="Choose another file with --out.")


def _ask(task: Task, descriptions: Mapping[str, str], brief: bool) -> Ask:
    seed = int.from_bytes(hashlib.sha256(task.id.encode()).digest()[:4], "big")
    text = _question(task, descriptions, brief=brief)
    return Ask(messages=(Message(text=text),), reply=RolePlayReply, temperature=TEMPERATURE, seed=seed)


def _question(task: Task, descriptions: Mapping[str, str], *, brief: bool) -> str:
    plan = task.demonstration.plan
    return load_prompt("painting/role_play").render(
        brief=brief,
        role=task.role,
        prompt=plan.prompt,
        model=plan.model,
        description=descriptions.get(plan.model, plan.model),
        form=task.form,
    )


def _query(task: Task, reply: Reply | Exception) -> Query | str:
    """The request, or why there is none."""
    if isinstance(reply, ReplyError) or (isinstance(reply, Reply) and not isinstance(reply.record, RolePlayReply)):
        return "the language model gave no usable reply"
    if not isinstance(reply, Reply) or not isinstance(reply.record, RolePlayReply):
        return str(reply).partition("\n")[0] or "the language model failed"
    turns = [Turn(role=turn.role, text=turn.text.strip()) for turn in reply.record.turns]
    if turns[-1].role != "user" or not turns[-1].text:
        return "the last turn is not the user's"
    if not all(turn.text for turn in turns):
        return "an empty turn"
    if task.form != "history" and len(turns) > 1:
        return "more than one turn where one was asked for"
    if task.form == "history" and len(turns) < 2:
        return "one turn where a dialogue was asked for"
    if task.form == "multimodal":
        turns[-1] = turns[-1].model_copy(update={"images": (Path(task.demonstration.picture),)})
    try:
        chat = Chat(turns=tuple(turns))
    except ValidationError:
        return "turns that make no chat"
    return Query(id=task.id, chat=chat, plan=task.demonstration.plan, role=task.role, demonstration=task.demonstration.id)


def _lies_here(picture: str) -> bool:
    return bool(picture) and "://" not in picture and Path(picture).is_file()
