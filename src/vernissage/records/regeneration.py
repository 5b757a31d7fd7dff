"""A regeneration: what became of one reference picture in the hands of one T2I model, round after round.

Pictures are named by the hash of their pixels; the files lie with whoever keeps them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vernissage.records.plan import Arguments, Text
from vernissage.records.tree import UnderstandingTree
from vernissage.records.verdict import Score, Unscored

Aspect = Literal["overall image", "style", "colour", "detailed content"]

ASPECTS: dict[Aspect, str] = {
    "overall image": "everything taken together, the most striking differences first",
    "style": "medium, manner, light and mood",
    "colour": "the colours of the objects and the palette of the whole",
    "detailed content": "which objects there are, how many, where they are and how they are placed, and the setting",
}
"""The queue of aspects, one a round (ImageRepainter, stage 2), and what each means."""


class Candidate(BaseModel):
    """One picture of a round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Text
    seed: int
    picture: str = ""
    """Hash of the picture's pixels; empty where it could not be painted."""
    scores: dict[str, Score | Unscored] = Field(default_factory=dict)
    """Against the reference, by name; higher is better but for distances such as `lpips`; see `repainting.select`."""
    selection: Score | Unscored
    """Weighted mean of the scores that all candidates of the round have: what the best is chosen by."""


class Round(BaseModel):
    """The candidates of one round and what led to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """Counted from 1."""
    aspect: Aspect
    feedback: Text = ""
    """What was to change in the best picture so far; empty in the first round."""
    candidates: tuple[Candidate, ...]
    best: int | None
    """Index of the candidate with the highest selection score; None where nothing was painted."""
    leads: bool = False
    """Whether that candidate is better than those of all earlier rounds, by the weighted scores that both have."""


class Cost(BaseModel):
    """What it took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int = 0
    """Put to the MLLM."""
    answer_seconds: float = 0.0
    """Of the MLLM's work, as its driver tells."""
    pictures: int = 0


class Regeneration(BaseModel):
    """Everything that was tried for one reference, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    """Hash of the reference's pixels."""
    model: str
    """Id of the T2I model under test."""
    arguments: Arguments
    tree: UnderstandingTree | None
    """None where the prompt came by another way, see `words`."""
    words: Literal["tree", "direct", "interrogate"] = "tree"
    """How the reference was put into words."""
    prompt: Text
    """The initial prompt."""
    rounds: tuple[Round, ...]
    failures: tuple[Text, ...] = ()
    """What could not be had along the way, and why."""
    ended_early: bool = False
    """Whether patience ended it before its last round."""
    cost: Cost = Cost()

    @property
    def last(self) -> Candidate | None:
        """The best of the last round: the result as the paper reports it.

        Where patience ended it, the best so far: the rounds that it ended with brought nothing, and would be all that is told.
        """
        if self.ended_early:
            return self.best
        final = self.rounds[-1]
        return None if final.best is None else final.candidates[final.best]

    @property
    def best(self) -> Candidate | None:
        """The best over all rounds: what a user wants."""
        leaders = [each.candidates[each.best] for each in self.rounds if each.leads and each.best is not None]
        return leaders[-1] if leaders else None
