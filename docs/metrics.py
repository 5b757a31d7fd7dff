"""Write docs/reference/metrics.md from the registry. Run: make docs. A test sees to it that the page is true."""

from pathlib import Path

from vernissage.scoring.registry import METRICS

PAGE = Path(__file__).parent / "reference" / "metrics.md"


def render() -> str:
    lines = [
        "# Metrics",
        "",
        "Generated from the registry by `make docs`; never edited. How to use them: [score](../how-to/score.md).",
        "",
        "| metric | what it says | range | better | source | numbers checked against |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| `{m.name}` | {m.about} | {m.range} | {m.direction} | {m.source} | {m.checked} |" for m in METRICS.values()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
