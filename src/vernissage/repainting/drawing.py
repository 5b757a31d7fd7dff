"""Regenerations and trees as pictures: a strip from the reference to the last round, and a tree as SVG."""

import re
from html import escape

from PIL import Image, ImageDraw, ImageFont

from vernissage.records.picture import Picture
from vernissage.records.regeneration import Regeneration
from vernissage.records.tree import UnderstandingTree
from vernissage.records.verdict import Score, Unscored

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that no XML document may hold."""
SIDE, GAP, LINE = 192, 8, 14


def score_text(score: Score | Unscored | None) -> str:
    """A score to three decimals, or a dash."""
    return f"{score.value:.3f}" if isinstance(score, Score) else "-"


def draw_strip(reference: Image.Image, regeneration: Regeneration, pictures: dict[str, Picture]) -> Image.Image:
    """The reference and the best picture of each round side by side, each with its scores below.

    Every picture is scaled into a square of 192 pixels, its sides kept in proportion.
    """
    columns: list[tuple[Image.Image | None, list[str]]] = [(reference, ["reference", f"repainted by {regeneration.model}"])]
    for each in regeneration.rounds:
        lines = [f"round {each.number}: {each.aspect}"]
        if each.best is None:
            columns.append((None, [*lines, "nothing was painted"]))
            continue
        winner = each.candidates[each.best]
        lines += [f"{name} {score_text(score)}" for name, score in winner.scores.items()]
        columns.append((pictures[winner.picture].image, lines))
    height = SIDE + LINE * max(len(lines) for _, lines in columns) + 3 * GAP
    strip = Image.new("RGB", (len(columns) * (SIDE + GAP) + GAP, height), "white")
    write, font = ImageDraw.Draw(strip), ImageFont.load_default()
    for index, (image, lines) in enumerate(columns):
        left = GAP + index * (SIDE + GAP)
        if image is not None:
            fitted = fit(image)
            strip.paste(fitted, (left + (SIDE - fitted.width) // 2, GAP + (SIDE - fitted.height) // 2))
        for row, line in enumerate(lines):
            write.text((left, SIDE + 2 * GAP + row * LINE), line[:34], fill="black", font=font)
    return strip


def fit(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The picture scaled so that its longer side is `side` pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def draw_tree(tree: UnderstandingTree) -> str:
    """The understanding tree as an SVG document: the caption as root, the parts as branches, their features as leaves."""
    rows = [(0, tree.caption)]
    rows += [(1, f"{name}: {value}") for name, value in tree.overall().items()]
    for thing in tree.objects:
        rows.append((1, f"{thing.name} ({thing.type})"))
        rows += [(2, f"{name}: {value}") for name, value in thing.features.items()]
    rows += [(1, f"relation: {phrase}") for phrase in tree.relations]
    step, indent = 26, 28
    parts: list[str] = []
    parents: dict[int, int] = {}
    for index, (depth, text) in enumerate(rows):
        x, y = 12 + depth * indent, 22 + index * step
        parents[depth] = y
        if depth:
            above = x - indent + 8
            parts.append(f'<path d="M{above} {parents[depth - 1] + 6}V{y - 4}H{x - 4}" fill="none" stroke="#999"/>')
        weight = "bold" if depth == 0 else "normal"
        parts.append(f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(_NOT_XML.sub("", text))}</text>')
    width = max(12 + depth * indent + 8 * len(text) for depth, text in rows) + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(rows) * step + 16}" '
        f'font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )
