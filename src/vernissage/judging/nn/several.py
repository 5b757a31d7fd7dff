"""Fills the port `Judge` with several trained judges, each for what it was trained on, as LMM4LMM's published checkpoints are."""

from collections.abc import Sequence
from typing import final

from PIL import Image

from vernissage.errors import BadInput
from vernissage.judging.nn.judge import TrainedJudge
from vernissage.judging.spec import DIMENSIONS
from vernissage.records.verdict import Verdict


@final
class SeveralJudges:
    """Judges that make one verdict; what several of them were trained on, the first one says.

    Each keeps its own backbone in memory, and looks at every picture for itself.

    Args:
        models: Folders of the judges.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Pictures in one pass.
    """

    def __init__(self, models: list[str], *, device: str = "auto", dtype: str = "auto", batch_size: int = 16) -> None:
        if not models:
            raise BadInput("No judge is named.", hint='Name their folders: models = ["./perception", "./correspondence"].')
        self._judges = [TrainedJudge(model, device=device, dtype=dtype, batch_size=batch_size) for model in models]
        self.name = " and ".join(judge.name for judge in self._judges)
        self._for = {name: self._first(name) for name in (*DIMENSIONS, "answers")}

    def _first(self, task: str) -> TrainedJudge:
        """Who says it: the first that was trained on it; the first of all, who says why not, where nobody was."""
        trained = [judge for judge in self._judges if (judge.spec.answers is not None if task == "answers" else task in judge.spec.heads)]
        return (trained or self._judges)[0]

    def judge(self, images: Sequence[Image.Image], prompts: Sequence[str | None], questions: Sequence[Sequence[str]]) -> list[Verdict]:
        """Perception, correspondence and answers for each picture; see `ports.Judge`."""
        none: list[Sequence[str]] = [()] * len(images)
        needed = [judge for judge in self._judges if judge in self._for.values()]
        said = {
            id(judge): judge.judge(images, prompts, questions if judge is self._for["answers"] else none)
            for judge in needed
            if judge is not self._for["answers"] or any(questions) or judge in (self._for[name] for name in DIMENSIONS)
        }
        verdicts = []
        for index in range(len(images)):
            seen, shown = (said[id(self._for[name])][index] for name in DIMENSIONS)
            told = said.get(id(self._for["answers"]))
            verdicts.append(
                Verdict(
                    perception=seen.perception,
                    perception_level=seen.perception_level,
                    correspondence=shown.correspondence,
                    correspondence_level=shown.correspondence_level,
                    answers=told[index].answers if told else (),
                    judge=self.name,
                )
            )
        return verdicts
