"""Plots as SVG text: bars with intervals, and radars."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from vernissage.metrics.interval import Estimate

COLOURS = ("#3b6ea5", "#b5533c", "#4f8a5b", "#8a5aa0", "#b08a2e", "#4a9aa5", "#a34f76", "#6b6b6b")


def bars(rows: Mapping[str, Estimate], title: str, *, digits: int = 1) -> str:
    """Horizontal bars from zero, each with its interval as a line and its value; those below zero go to the left of its line."""
    left, width, row = 170, 480, 20
    low = min((estimate.low for estimate in rows.values()), default=0.0)
    low, high = min(0.0, low), max((estimate.high for estimate in rows.values()), default=1.0)
    high = max(0.0, high) if low < 0 else high or 1.0
    zero = left - width * low / (high - low)
    parts = [f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>']
    for index, (name, estimate) in enumerate(rows.items()):
        y = 30 + index * row
        at = [zero + width * value / (high - low) for value in (estimate.low, estimate.value, estimate.high)]
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        size = f'width="{abs(at[1] - zero):.1f}" height="{row - 6}"'
        parts.append(f'<rect x="{min(zero, at[1]):.1f}" y="{y + 2}" {size} fill="{COLOURS[0]}" opacity="0.75"/>')
        parts.append(f'<path d="M{at[0]:.1f} {y + 9}H{at[2]:.1f}" stroke="#222" stroke-width="1.5"/>')
        parts.append(f'<text x="{left + width + 12}" y="{y + 12}">{estimate.value:.{digits}f}</text>')
    if low < 0:
        parts.append(f'<path d="M{zero:.1f} 26V{30 + len(rows) * row}" stroke="#888"/>')
    return _document("".join(parts), left + width + 70, 40 + len(rows) * row)


def radar(rows: Mapping[str, Sequence[float]], axes: Sequence[str], title: str) -> str:
    """One closed line a row over axes that share a scale from zero to the largest value."""
    centre, radius = 330, 220
    top = max((value for values in rows.values() for value in values if math.isfinite(value)), default=1.0) or 1.0

    def point(axis: int, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * axis / len(axes) - math.pi / 2
        return centre + radius * share * math.cos(angle), centre + radius * share * math.sin(angle)

    parts = [f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>']
    for share in (0.25, 0.5, 0.75, 1.0):
        ring = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(axis, share) for axis in range(len(axes))))
        parts.append(f'<polygon points="{ring}" fill="none" stroke="#ddd"/>')
    for axis, name in enumerate(axes):
        x, y = point(axis, 1.07)
        anchor = "middle" if abs(x - centre) < 20 else "start" if x > centre else "end"
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
    for index, (name, values) in enumerate(rows.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (point(axis, value / top) for axis, value in enumerate(values) if math.isfinite(value))
        )
        parts.append(f'<polygon points="{line}" fill="{colour}" fill-opacity="0.06" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{2 * centre + 60}" y="{60 + 20 * index}" fill="{colour}">{escape(name)}</text>')
    return _document("".join(parts), 2 * centre + 240, 2 * centre)


def _document(body: str, width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>'
    )
