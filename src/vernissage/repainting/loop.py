"""The repainting loop: reference to words, words to pictures, the best picture to feedback, feedback to words (stage 2).

One reference's road is `repaint_one`, read from top to bottom; `repaint_all` lets many walk it in step. Nothing is shared
between references but the models.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from vernissage.errors import DriverError, VernissageError
from vernissage.ports import Reply, TextImageEncoder
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.regeneration import ASPECTS, Aspect, Candidate, Cost, Regeneration, Round
from vernissage.records.tree import UnderstandingTree
from vernissage.records.verdict import Unscored
from vernissage.repainting.describe import Words, describe
from vernissage.repainting.facts import facts_to_ask
from vernissage.repainting.lockstep import Paintings, Pictures, Ports, Questions, Work, run_together
from vernissage.repainting.revise import give_feedback, is_no_change, revise, rewrite
from vernissage.repainting.select import RATINGS, Attempt, Rater, is_better, rate_attempts, score_attempts, select, weigh

QUEUE: tuple[Aspect, ...] = tuple(ASPECTS)


class Settings(BaseModel):
    """How pictures are repainted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=4, ge=1)
    """Rounds, T in the paper."""
    candidates: int = Field(default=3, ge=1)
    """Pictures a round, N in the paper."""
    words: Words = "tree"
    """How the reference is put into words: by its tree, directly, or interrogated by CLIP."""
    weights: dict[str, float] = Field(default_factory=lambda: {"clip": 1.0, "dinov2": 1.0})
    """Weight of each score in the selection: clip, dinov2, ssim, consistency, perception, match, facts; at least 0, one above."""
    rate: tuple[str, ...] = ("consistency", "perception")
    """Ratings of each round's best picture, of `select.RATINGS`; a rating with a weight is given of every picture anyhow."""
    rater: Literal["mllm", "judge"] = "mllm"
    """Who rates: the MLLM that also describes, or the studio's judge; see `select.rate_attempts`."""
    patience: int = Field(default=0, ge=0)
    """Stop after N rounds without a better picture; 0 never stops early."""
    seed: int = Field(default=0, ge=0)
    """Decides the starting noise of every picture and the words drawn."""

    @field_validator("weights")
    @classmethod
    def _usable(cls, weights: dict[str, float]) -> dict[str, float]:
        if not all(0 <= weight <= 1e6 for weight in weights.values()) or not sum(weights.values()) > 0:
            raise ValueError("weights must be numbers from 0 to 1,000,000, one of them above 0")
        return weights


class Repainted(NamedTuple):
    """A regeneration and the pictures it speaks of, by hash."""

    regeneration: Regeneration
    pictures: dict[str, Picture]


Watch = Callable[[UnderstandingTree | Round], None]
"""Called with the tree, and with each round, as soon as it is there."""


def repaint_all(
    references: Sequence[Image.Image],
    plan: Plan,
    settings: Settings,
    ports: Ports,
    *,
    clip: TextImageEncoder | None = None,
    watch: Watch | None = None,
) -> list[Repainted | VernissageError]:
    """Repaint references with one T2I model, in step, so that their work is done in common batches.

    Args:
        references: Any sizes.
        plan: Model, arguments and negative prompt; its prompt is replaced.
        settings: See `Settings`.
        ports: Who answers, paints and encodes.
        clip: Needed where `settings.words` is "interrogate".
        watch: Told of every reference's tree and rounds as they come.

    Returns:
        For each reference what became of it, or why nothing did.
    """
    works = [repaint_one(image, plan, settings, brief=ports.mllm.brief, clip=clip, watch=watch) for image in references]
    return run_together([_counted(work) for work in works], ports)


def repaint_one(
    reference: Image.Image,
    plan: Plan,
    settings: Settings,
    *,
    brief: bool,
    clip: TextImageEncoder | None = None,
    watch: Watch | None = None,
) -> Work[Repainted]:
    """The road of one reference.

    Raises:
        VernissageError: It could not be put into words, or nothing at all could be painted.
    """
    prompt, tree, troubles = yield from describe(reference, settings.words, brief=brief, clip=clip)
    failures, rounds, pictures = list(troubles), [], {}
    rater = Rater(brief, prompt if settings.rater == "judge" else "", facts_to_ask(tree) if tree else ())
    tell = watch or (lambda _news: None)
    if tree is not None:
        tell(tree)
    best: Candidate | None = None
    since_better, ended_early = 0, False
    for number in range(1, settings.rounds + 1):
        aspect, feedback, kept = QUEUE[(number - 1) % len(QUEUE)], "", None
        draw = 1000 * settings.seed + (number - 1) * settings.candidates  # of words; no two settings share one
        seeds = [first_noise(settings.seed) + (number - 1) * settings.candidates + index for index in range(settings.candidates)]
        if best is None:
            prompts, troubles = yield from rewrite(prompt, settings.candidates, seed=draw, brief=brief)
        else:
            prompts, feedback, troubles = yield from _next_prompts(
                reference, pictures[best.picture], best.prompt, aspect, tree, settings, draw, brief
            )
            if is_no_change(feedback):  # the picture stays in the running, beside others of its prompt
                kept, seeds = best, seeds[1:]
            elif feedback and prompts[0] != best.prompt:
                # The likeliest revision starts from the noise of what it revises, so that only what the words ask for changes.
                seeds[0] = best.seed
        failures += troubles
        candidates, painted, troubles = yield from _paint_round(reference, plan, prompts, seeds, settings, rater, kept)
        failures += troubles
        pictures |= painted
        chosen = _best_of(candidates)
        rounds.append(Round(number=number, aspect=aspect, feedback=feedback, candidates=tuple(candidates), best=chosen))
        if chosen is not None:
            leads = best is None or is_better(candidates[chosen].scores, best.scores, settings.weights)
            rounds[-1] = rounds[-1].model_copy(update={"leads": leads})
            best, since_better = (candidates[chosen], 0) if leads else (best, since_better + 1)
        tell(rounds[-1])
        if settings.patience and since_better >= settings.patience:
            ended_early = number < settings.rounds
            break
    if best is None:
        raise DriverError(f"{plan.model} painted nothing: {failures[-1] if failures else 'no reason was given'}")
    rounds = yield from _rate_winners(reference, rounds, pictures, settings, rater)
    regeneration = Regeneration(
        reference=Picture.of(reference).hash,
        model=plan.model,
        arguments=plan.arguments,
        tree=tree,
        words=settings.words,
        prompt=prompt,
        rounds=tuple(rounds),
        failures=tuple(failures),
        ended_early=ended_early,
    )
    return Repainted(regeneration, pictures)


def first_noise(seed: int) -> int:
    """The seed of a repainting's first picture; the others follow it.

    Far from the small numbers that people and benchmarks paint references with: from a reference's own noise a model that painted it
    would repeat it.
    """
    return int.from_bytes(hashlib.sha256(f"repaint {seed}".encode()).digest()[:4]) % 2**31


def _next_prompts(
    reference: Image.Image, current: Picture, prompt: str, aspect: Aspect, tree: Any, settings: Settings, seed: int, brief: bool
) -> Work[tuple[list[str], str, list[str]]]:
    """Prompts of a later round with the feedback they follow; without feedback, synonyms of the best prompt.

    Where nothing must change, the best picture is one of the candidates and only the others are to be painted, by the same prompt:
    rewording what is right already makes pictures less like the reference.
    """
    try:
        feedback = yield from give_feedback(reference, current.image, aspect, tree=tree, brief=brief)
    except VernissageError as error:
        prompts, failures = yield from rewrite(prompt, settings.candidates, seed=seed, brief=brief)
        return prompts, "", [f"feedback on {aspect}: {error}", *failures]
    if is_no_change(feedback):
        return [prompt] * (settings.candidates - 1), feedback, []
    prompts, failures = yield from revise(prompt, feedback, settings.candidates, seed=seed, brief=brief)
    return prompts, feedback, failures


def _paint_round(
    reference: Image.Image,
    plan: Plan,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    rater: Rater,
    kept: Candidate | None,
) -> Work[tuple[list[Candidate], dict[str, Picture], list[str]]]:
    """The candidates of a round, the kept one first: (candidates, pictures painted, failures)."""
    plans = [
        plan.model_copy(update={"prompt": prompt, "arguments": plan.arguments.model_copy(update={"seed": seed})})
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    painted: Pictures = yield Paintings(plans)
    done = {index: picture for index, picture in enumerate(painted) if isinstance(picture, Picture)}
    rated = [name for name in RATINGS if settings.weights.get(name, 0) > 0]
    encoders = [name for name in settings.weights if name not in (*RATINGS, "ssim")]
    attempts = [Attempt(picture.image, prompts[index]) for index, picture in done.items()]
    scores = yield from score_attempts(reference, attempts, ratings=rated, encoders=encoders, rater=rater)
    chosen_by = weigh([each.scores for each in (kept,) if each] + scores, settings.weights)
    candidates = [kept.model_copy(update={"selection": chosen_by.pop(0)})] if kept else []
    selection = dict(zip(done, zip(scores, chosen_by, strict=True), strict=True))
    failures = []
    for index, (each, picture) in enumerate(zip(plans, painted, strict=True)):
        if isinstance(picture, Picture):
            values, weighed = selection[index]
            candidates.append(Candidate(prompt=each.prompt, seed=seeds[index], picture=picture.hash, scores=values, selection=weighed))
        else:
            failures.append(f"a picture: {picture}")
            candidates.append(Candidate(prompt=each.prompt, seed=seeds[index], selection=Unscored(reason=str(picture))))
    return candidates, {picture.hash: picture for picture in done.values()}, failures


def _best_of(candidates: Sequence[Candidate]) -> int | None:
    done = [index for index, candidate in enumerate(candidates) if candidate.picture]
    chosen = select([candidates[index].selection for index in done])
    return None if chosen is None else done[chosen]


def _rate_winners(
    reference: Image.Image, rounds: Sequence[Round], pictures: dict[str, Picture], settings: Settings, rater: Rater
) -> Work[list[Round]]:
    """The rounds with the ratings of each one's best picture, those that it does not have yet."""
    missing = [name for name in settings.rate if settings.weights.get(name, 0) <= 0]
    winners = [index for index, each in enumerate(rounds) if each.best is not None]
    if not missing or not winners:
        return list(rounds)
    best = [rounds[index].candidates[rounds[index].best or 0] for index in winners]
    attempts = {(each.picture, each.prompt): Attempt(pictures[each.picture].image, each.prompt) for each in best}  # one may win twice
    ratings = yield from rate_attempts(reference, list(attempts.values()), missing, rater)
    rating_of = dict(zip(attempts, ratings, strict=True))
    rated = list(rounds)
    for index, winner in zip(winners, best, strict=True):
        best_index, candidates = rounds[index].best or 0, list(rounds[index].candidates)
        scores = winner.scores | rating_of[winner.picture, winner.prompt]
        candidates[best_index] = candidates[best_index].model_copy(update={"scores": scores})
        rated[index] = rounds[index].model_copy(update={"candidates": tuple(candidates)})
    return rated


def _counted(work: Work[Repainted]) -> Generator[Any, Any, Repainted]:
    """The same work, with what it cost written into its regeneration."""
    questions, pictures, seconds = 0, 0, 0.0
    answer: Any = None
    while True:
        try:
            request = work.throw(answer) if isinstance(answer, VernissageError) else work.send(answer)
        except StopIteration as end:
            cost = Cost(questions=questions, answer_seconds=round(seconds, 3), pictures=pictures)
            return Repainted(end.value.regeneration.model_copy(update={"cost": cost}), end.value.pictures)
        try:
            answer = yield request
        except VernissageError as error:  # of an encoder; the work itself decides what it means
            answer = error
            continue
        if isinstance(request, Questions):
            questions += len(request.asks)
            seconds += sum(reply.seconds for reply in answer if isinstance(reply, Reply))
        elif isinstance(request, Paintings):
            pictures += sum(isinstance(picture, Picture) for picture in answer)
