"""The repainting benchmark as one self-contained HTML page: leaderboard, plots by kind, and every reference's way to its result."""

import base64
import difflib
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import jinja2
from PIL import Image

from vernissage.bench.plots import COLOURS
from vernissage.bench.repaint import Cell, Item, by_round, compare_models, heading, leaderboard, rise, score_names
from vernissage.bench.run import Run
from vernissage.errors import BadInput
from vernissage.records.regeneration import Regeneration
from vernissage.records.verdict import Score
from vernissage.repainting.drawing import fit

THUMBNAIL = 144


def render_report(run: Run, items: Sequence[Item]) -> str:
    """The page; pictures are embedded as small JPEGs."""
    kinds = sorted({item.kind for item in items if item.kind})
    names = score_names(items)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vernissage.bench", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(
        header=run.header,
        heading=heading,
        names=names,
        boards=[
            ("last round, as in the paper", leaderboard(items, "last")),
            ("best of all rounds", leaderboard(items, "best")),
            *((f"last round, {kind}", leaderboard(items, "last", kind=kind)) for kind in kinds if len(kinds) > 1),
        ],
        plots=[(name, plot_kinds(items, name, kinds)) for name in names],
        rounds={name: (by_round(items, name), rise(items, name)) for name in names},
        comparisons=compare_models(items, "last"),
        strips=[(item, _strip(run, item)) for item in items],
        asked=len(items),
        scored=sum(item.regeneration is not None for item in items),
    )


def plot_kinds(items: Sequence[Item], name: str, kinds: Sequence[str]) -> str:
    """One score by model and kind of reference as SVG: a dot for the mean, a line for its interval."""
    boards: dict[str, dict[str, dict[str, Cell]]] = {"all": leaderboard(items, "last", names=[name])}
    boards |= {kind: leaderboard(items, "last", kind=kind, names=[name]) for kind in kinds}
    models = list(boards["all"])
    found = [board[model][name].estimate for board in boards.values() for model in board]
    values = [bound for estimate in found if estimate for bound in (estimate.low, estimate.high)]
    if not values:
        return ""
    low, high = min(values), max(values)
    low, high = (low - 0.02, high + 0.02) if high - low < 1e-6 else (low, high)
    left, width, row, gap = 150, 460, 16, 14
    parts, y = [], 24
    for kind, board in boards.items():
        parts.append(f'<text x="8" y="{y + 4}" font-weight="bold">{escape(kind)}</text>')
        for index, model in enumerate(models):
            estimate = board[model][name].estimate if model in board else None
            colour = COLOURS[index % len(COLOURS)]
            parts.append(f'<text x="{left + width + 16}" y="{y + 4}" fill="{colour}">{escape(model)}</text>')
            if estimate:
                at = [left + width * (value - low) / (high - low) for value in (estimate.low, estimate.value, estimate.high)]
                parts.append(f'<path d="M{at[0]:.1f} {y}H{at[2]:.1f}" stroke="{colour}" stroke-width="2"/>')
                parts.append(f'<circle cx="{at[1]:.1f}" cy="{y}" r="4" fill="{colour}"><title>{estimate} n = {estimate.n}</title></circle>')
            y += row
        y += gap
    axis = f'<text x="{left}" y="{y}">{low:.3f}</text><text x="{left + width}" y="{y}" text-anchor="end">{high:.3f}</text>'
    return f'<svg width="900" height="{y + 8}" font-family="sans-serif" font-size="12">{"".join(parts)}{axis}</svg>'


def mark_changes(before: str, after: str) -> list[tuple[str, str]]:
    """The words of `after`, each "kept", "added", or, for words of `before` that are gone, "gone".

    Example:
        >>> mark_changes("one red cat", "two red cats")
        [('gone', 'one'), ('added', 'two'), ('kept', 'red'), ('gone', 'cat'), ('added', 'cats')]
    """
    old, new = before.split(), after.split()
    marked: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal":
            marked.append(("kept", " ".join(new[c:d])))
            continue
        marked += [("gone", " ".join(old[a:b]))] if b > a else []
        marked += [("added", " ".join(new[c:d]))] if d > c else []
    return marked


def _strip(run: Run, item: Item) -> list[dict[str, Any]]:
    """The reference and the best picture of each round, ready for the page."""
    if item.regeneration is None:
        return []
    done: Regeneration = item.regeneration
    shown: list[dict[str, Any]] = [
        {"title": "reference", "image": _embedded(run, done.reference), "words": [("kept", done.prompt)], "feedback": "", "scores": {}}
    ]
    before = done.prompt
    for each in done.rounds:
        title = f"round {each.number}: {each.aspect}"
        if each.best is None:
            shown.append({"title": title, "image": "", "words": [], "feedback": each.feedback, "scores": {}})
            continue
        winner = each.candidates[each.best]
        scores = {
            name: f"{score.value:.3f}" if isinstance(score, Score) else f"unscored: {score.reason}" for name, score in winner.scores.items()
        }
        shown.append(
            {
                "title": title,
                "image": _embedded(run, winner.picture),
                "words": mark_changes(before, winner.prompt),
                "feedback": each.feedback,
                "scores": scores,
            }
        )
        before = winner.prompt if each.leads else before  # what the next round revises
    return shown


def _embedded(run: Run, content: str) -> str:
    try:
        image: Image.Image = fit(run.picture(content), THUMBNAIL)
    except BadInput:  # lost, and it could not be painted again
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
