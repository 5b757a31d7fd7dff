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
        "Licences are those of the published weights, as far as their authors state one. Driver: that of `[scorers.NAME]`.",
        "",
        "| metric | what it says | range | better | needs | driver | licence | source | numbers checked against |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for m in METRICS.values():
        cells = [m.about, m.range, m.direction, ", ".join(sorted(m.needs)), m.driver, m.licence, m.source, m.checked]
        lines.append(f"| `{m.name}` | {' | '.join(cells)} |")
    lines += [
        "",
        "Of texts there is BERTScore (Zhang et al. 2020, without idf weights): `vernissage score --texts pairs.csv`. Its numbers were",
        "checked against the published formula on one tiny checkpoint, 1e-5, and by `benchmarks/bert_score_speed.py` against bert-score.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
