"""A repainting run in the layout that the authors of ImageRepainter use, for their tools and figures."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vernissage.bench.repaint import Item, leaderboard, score_names
from vernissage.bench.run import Run
from vernissage.errors import BadInput, reason_of
from vernissage.records.files import write_whole
from vernissage.records.regeneration import Candidate
from vernissage.records.verdict import Score

_ELSEWHERE = "Choose another folder with --export."
RATED = ("consistency", "perception")
"""Scores that an MLLM gives from 1 to 5."""


def export_results(run: Run, items: Sequence[Item], folder: Path) -> Path:
    """Write `benchmark_results/<run>/…` below a folder.

    For each model and reference `iut.json`, the tree; `iteration_k/` with every candidate of round k, the best of them as
    `iter_k_best_image.png` with `iter_k_metadata.json`; `final/` with the last round's best as `best_image.png` and
    `final_metrics.json`; and one `benchmark_final.json` for all, with the run's `header.json`. Scores that are missing are
    null with a reason, never a number. An earlier export of the run is replaced.
    Ratings are (r - 1) / 4; what the paper prints is apparently r / 5, and stands beside them as `on_the_papers_scale`.

    Returns:
        The folder `benchmark_results/<run>`.

    Raises:
        BadInput: It cannot be written, or holds something else.
    """
    target = folder / "benchmark_results" / run.folder.resolve().name
    _begin(target, run)
    rows = []
    folders = _folders([item.model for item in items])
    for item in items:
        place = target / folders[item.model] / item.reference
        row: dict[str, Any] = {"model": item.model, "image": item.reference, "type": item.kind}
        if item.regeneration is None:
            rows.append({**row, "unscored": item.unscored})
            continue
        if item.regeneration.tree is not None:
            _write(place / "iut.json", item.regeneration.tree.model_dump(mode="json"))
        for each in item.regeneration.rounds:
            iteration, name = place / f"iteration_{each.number}", f"iter_{each.number}"
            for index, candidate in enumerate(each.candidates):
                _copy(run, candidate, iteration / f"{index}.png")
            if each.best is not None:
                _copy(run, each.candidates[each.best], iteration / f"{name}_best_image.png")
                _write(iteration / f"{name}_metadata.json", _told(each.candidates[each.best]))
            told = {"aspect": each.aspect, "feedback": each.feedback, "best": each.best, "candidates": [_told(c) for c in each.candidates]}
            _write(iteration / "iteration.json", told)
        last = item.regeneration.last
        if last is not None:
            _copy(run, last, place / "final" / "best_image.png")
            _write(place / "final" / "final_metrics.json", _told(last))
        rows.append({**row, "prompt": last.prompt if last else None, **(_told(last)["scores"] if last else {})})
    names = score_names(items)
    board = {model: {name: cells[name].estimate for name in names} for model, cells in leaderboard(items, "last").items()}
    means = {model: {name: each.value if each else None for name, each in cells.items()} for model, cells in board.items()}
    counts = {model: {name: each.n if each else 0 for name, each in cells.items()} for model, cells in board.items()}
    papers = {
        model: {name: (4 * value + 1) / 5 for name, value in cells.items() if name in RATED and value is not None}
        for model, cells in means.items()
    }
    rated = {"on_the_papers_scale": papers} if run.header.settings["repaint"]["rater"] == "mllm" else {}
    _write(target / "benchmark_final.json", {"means": means, **rated, "scored": counts, "results": rows})
    return target


def _folders(models: Sequence[str]) -> dict[str, str]:
    """A folder for each model, as the authors name them; "a/b" and "a_b" do not share one."""
    found: dict[str, str] = {}
    for model in dict.fromkeys(models):
        plain = model.replace("/", "_")
        found[model] = plain if plain not in found.values() else f"{plain}-{len(found) + 1}"
    return found


def _begin(target: Path, run: Run) -> None:
    """An empty folder for this run's export.

    Raises:
        BadInput: It cannot be written, or holds something else.
    """
    header = run.header.model_dump(mode="json")
    try:
        if target.is_dir() and any(target.iterdir()):
            try:
                same = json.loads((target / "header.json").read_bytes()) == header
            except (FileNotFoundError, ValueError):
                same = False
            if not same:
                raise BadInput(f"{target} holds something else than an export of this run.", hint=_ELSEWHERE)
            shutil.rmtree(target)
    except OSError as error:
        raise BadInput(f"Cannot write {target}: {reason_of(error)}.", hint=_ELSEWHERE) from error
    _write(target / "header.json", header)


def _told(candidate: Candidate) -> dict[str, Any]:
    scores = {name: score.value if isinstance(score, Score) else None for name, score in candidate.scores.items()}
    reasons = {name: score.reason for name, score in candidate.scores.items() if score.reason}
    return {"prompt": candidate.prompt, "seed": candidate.seed, "scores": scores, "reasons": reasons}


def _copy(run: Run, candidate: Candidate, path: Path) -> None:
    if candidate.picture and run.has_picture(candidate.picture):
        write_whole(path, run.picture_path(candidate.picture).read_bytes(), hint=_ELSEWHERE)


def _write(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", hint=_ELSEWHERE)
