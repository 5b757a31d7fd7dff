"""EvalMi-50K: the 24 models as people rank them, and judges measured against people."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.datasets.evalmi import DIMENSIONS, QUESTIONS, TASKS, EvalMi
from vernissage.errors import BadInput
from vernissage.metrics.correlation import krcc, or_none, plcc_interval, plcc_logistic, srcc, srcc_interval
from vernissage.metrics.interval import Estimate, mean_interval, ratio_interval, share_interval
from vernissage.records.table import read_rows
from vernissage.scoring.registry import METRICS


class Place(NamedTuple):
    """One model in a leaderboard of people's opinions."""

    model: str
    estimate: Estimate
    """Mean opinion: MOS on 0 to 100, or share of questions answered yes; interval over prompts."""
    rank: int
    rank_low: int
    """Best rank in 95 % of bootstrap samples of prompts."""
    rank_high: int


def human_leaderboard(data: EvalMi, dimension: str, task: str | None = None, *, draws: int = 1000, seed: int = 0) -> list[Place]:
    """The models by mean opinion, best first, each with the ranks it takes when prompts are drawn anew.

    Raises:
        BadInput: An unknown dimension or task.
    """
    if dimension not in DIMENSIONS or (task is not None and task not in TASKS):
        raise BadInput(f"There is no {dimension!r} of {task or 'all tasks'!r}.", hint=f"Dimensions: {', '.join(DIMENSIONS)}.")
    values = data.opinions[dimension][:, data.rows(task)]
    means = np.nanmean(values, axis=1)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(values.shape[1], size=(draws, values.shape[1]))
    ranks = np.stack([_ranks(np.nanmean(values[:, chosen], axis=1)) for chosen in drawn])
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="nearest").astype(int)
    own = _ranks(means)
    interval = share_interval if dimension == "accuracy" else mean_interval
    places = [
        Place(model, interval(values[index][~np.isnan(values[index])]), int(own[index]), int(low[index]), int(high[index]))
        for index, model in enumerate(data.models)
    ]
    return sorted(places, key=lambda place: place.rank)


def _ranks(means: ndarray) -> ndarray:
    """Ranks from 1, the highest mean first; equal ones share theirs."""
    return 1 + (means[None, :] > means[:, None]).sum(axis=1)


class JudgeRow(NamedTuple):
    """A judge against people, on all tasks or one; a correlation that is undefined is None."""

    task: str
    srcc: Estimate | None
    """With its interval over prompts, as of PLCC."""
    plcc: Estimate | None
    plcc_fitted: float | None
    """After a logistic fit of scores to opinions."""
    krcc: float | None
    n: int
    asked: int


def read_predictions(path: Path, data: EvalMi) -> dict[str, ndarray]:
    """Scores by model and prompt from a CSV or Parquet file with the columns image and score, images named as in the authors' table.

    Without a column score every column of numbers is a judge of its own, as in the tables of `vernissage score` and `judge`.

    Returns:
        By judge, named after the file or the column: shape (model, prompt), NaN where there is no score; of metrics of which lower is
        better, such as niqe, the negative.

    Raises:
        BadInput: The file cannot be read, an image is unknown or twice there, a score is no number, or there are no scores.
    """
    rows = read_rows(path, "predictions", ("image",))
    if "score" in rows[0][1]:
        return {path.stem: _read(path, rows, "score", data)[..., 0]}
    columns = [name for name in rows[0][1] if name != "image" and name and _is_numbers([row.get(name) for _, row in rows])]
    if not columns:
        raise BadInput(f"{path} has no scores.", hint="Add a column score, or columns of numbers named after the judges.")
    lower = {name for name in columns if name in METRICS and METRICS[name].direction == "lower"}  # as people's opinions, higher is better
    return {name: _read(path, rows, name, data)[..., 0] * (-1 if name in lower else 1) for name in columns}


def _is_numbers(cells: Sequence[str | None]) -> bool:
    """Whether a column holds numbers and gaps, and not gaps alone."""
    said = [cell for cell in cells if cell]
    try:
        return bool([float(cell) for cell in said])
    except ValueError:
        return False


def read_answers(path: Path, data: EvalMi) -> ndarray:
    """Probabilities of yes from a CSV file with the columns image, score and, where it is not the first, the number of the question.

    Returns:
        Shape (model, prompt, question), in [0, 1], NaN where there is no answer.

    Raises:
        BadInput: As for `read_predictions`, or a score is no probability, or there is no such question.
    """
    return _read(path, read_rows(path, "predictions", ("image", "score")), "score", data, of_questions=True)


def _read(path: Path, rows: Sequence[tuple[int, dict[str, str]]], column: str, data: EvalMi, *, of_questions: bool = False) -> ndarray:
    models = {name: index for index, name in enumerate(data.models)}
    scores = np.full((len(data.models), len(data.prompts), QUESTIONS if of_questions else 1), np.nan)
    for line, row in rows:
        folder, _, name = (row["image"] or "").replace("\\", "/").rpartition("/")
        model, number = folder.rpartition("/")[2], name.split(".")[0]  # tables of ours tell the whole path
        if model not in models or not number.isdecimal() or not 1 <= int(number) <= len(data.prompts):
            raise BadInput(f"{path}, line {line}: {row['image']!r} is no picture of EvalMi-50K.", hint="Name it like NOVA/0001.png.")
        questions = data.prompts[int(number) - 1].questions
        asked = (row.get("question") or "1").strip() if of_questions else "1"
        if of_questions and (told := row.get("asked", "")) in questions:  # the words, where people left an earlier question out
            asked = str(questions.index(told) + 1)
        known = max(1, len(questions))
        if not asked.isdecimal() or not 1 <= int(asked) <= known:
            raise BadInput(
                f"{path}, line {line}: {row['image']} has no question {asked!r}.", hint=f"Number its questions from 1 to {known}."
            )
        place = models[model], int(number) - 1, int(asked) - 1
        if not np.isnan(scores[place]):
            raise BadInput(f"{path}, line {line}: {row['image']} is there twice.", hint="Keep one of the two.")
        if row[column] in ("", None):
            continue  # unscored, and counted as such
        try:
            scores[place] = float(row[column])
        except ValueError as error:
            raise BadInput(
                f"{path}, line {line}: the score is {row[column]!r}, not a number.", hint="Leave it empty if there is none."
            ) from error
        if not np.isfinite(scores[place]):
            raise BadInput(f"{path}, line {line}: the score is {row[column]!r}.", hint="Leave it empty if there is none.")
        if of_questions and not 0 <= scores[place] <= 1:
            raise BadInput(f"{path}, line {line}: {row[column]} is no probability of yes.", hint="Give numbers from 0 to 1.")
    return scores


class AccuracyRow(NamedTuple):
    """How often a judge answers as people do, on all tasks or one."""

    task: str
    accuracy: Estimate | None
    """Share of answers, interval over prompts; None where there is none."""
    n: int
    asked: int


def accuracy_table(data: EvalMi, said: ndarray) -> list[AccuracyRow]:
    """A judge's answers against the majority's, over all questions and by task.

    Args:
        data: The table of opinions.
        said: Probability of yes, shape (model, prompt, question), NaN where unanswered; yes from above one half.
    """
    rows = []
    for task in (None, *TASKS):
        chosen = data.rows(task)
        mine, theirs = said[:, chosen], data.answers[:, chosen]
        both = ~np.isnan(mine) & ~np.isnan(theirs)
        right = (((mine > 0.5) == (theirs > 0.5)) & both).sum(axis=(0, 2))
        answered = both.sum(axis=(0, 2))
        share = ratio_interval(right[answered > 0], answered[answered > 0]) if both.any() else None
        rows.append(AccuracyRow(task or "all", share, n=int(both.sum()), asked=int((~np.isnan(theirs)).sum())))
    return rows


def judge_table(data: EvalMi, scores: ndarray, dimension: str, *, seed: int = 0) -> list[JudgeRow]:
    """Correlations of a judge's scores with people's opinions, over all pictures and by task.

    Args:
        data: The table of opinions.
        scores: Shape (model, prompt), NaN where unscored.
        dimension: Perception or correspondence.
        seed: Decides the bootstrap over prompts: all pictures of a prompt are drawn together, since they hang together.
    """
    rows = []
    for task in (None, *TASKS):
        chosen = data.rows(task)
        mine, theirs = scores[:, chosen].ravel(), data.opinions[dimension][:, chosen].ravel()
        both = ~np.isnan(mine) & ~np.isnan(theirs)
        pair, prompts = (mine[both], theirs[both]), np.tile(chosen, len(data.models))[both]
        rank, line = (measure(*pair, groups=prompts, seed=seed) for measure in (srcc_interval, plcc_interval))
        others = (or_none(measure, *pair) for measure in (plcc_logistic, krcc))
        rows.append(JudgeRow(task or "all", rank, line, *others, n=int(both.sum()), asked=int((~np.isnan(theirs)).sum())))
    return rows


class RankingAgreement(NamedTuple):
    """How like people a judge ranks the models."""

    srcc: float | None
    relative_rmse: float
    """Root mean squared error of the models' means, after a straight line is fitted, over the range of people's means."""


def model_ranking(data: EvalMi, scores: ndarray, dimension: str) -> RankingAgreement:
    """The models' mean scores against their mean opinions, over the pictures that have both.

    Raises:
        BadInput: A model has no scored picture.
    """
    theirs = np.where(np.isnan(scores), np.nan, data.opinions[dimension])
    if np.isnan(theirs).all(axis=1).any():
        missing = data.models[int(np.isnan(theirs).all(axis=1).argmax())]
        raise BadInput(f"No picture of {missing} is scored.", hint="Rankings need scores for every model.")
    mine, human = np.nanmean(scores, axis=1), np.nanmean(theirs, axis=1)
    line = np.polyval(np.polyfit(mine, human, 1), mine) if np.ptp(mine) > 0 else np.full_like(human, human.mean())
    return RankingAgreement(or_none(srcc, mine, human), float(np.sqrt(((line - human) ** 2).mean()) / np.ptp(human)))
