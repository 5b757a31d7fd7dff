"""Metrics against opinions: correlations, signs, gaps."""

import json

import numpy as np
import pytest
from PIL import Image

from vernissage.bench.metrics import agreements, entries_of
from vernissage.cli import main
from vernissage.datasets.judged import JudgedPicture, read_judged
from vernissage.errors import BadInput
from vernissage.records.table import read_rows
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.score import Scored


def rows(count=40):
    return [JudgedPicture(image=f"{i}.png", perception=float(i), correspondence=None if i % 2 else float(-i)) for i in range(count)]


def scores(values):
    return [Unscored(reason="gone") if value is None else Score(value=float(value)) for value in values]


def test_the_best_agreeing_metric_comes_first_and_gaps_are_counted():
    noise = np.random.default_rng(0).normal(size=40)
    pictures = {
        "ssim": scores(noise),
        "clipscore": scores([None if i in (3, 4) else i**3 for i in range(40)]),
        "lpips": scores([-2 * i for i in range(40)]),
    }
    found = agreements(rows(), Scored(entries_of(rows()), pictures, {}))
    perception = [row for row in found if row.dimension == "perception"]
    assert [row.metric for row in perception][-1] == "ssim"
    by_name = {row.metric: row for row in perception}
    assert by_name["clipscore"].srcc.value == pytest.approx(1)
    assert (by_name["clipscore"].n, by_name["clipscore"].asked) == (38, 40)
    assert by_name["lpips"].srcc.value == pytest.approx(1), "lower is better, so the sign is turned"
    assert by_name["lpips"].plcc.value == pytest.approx(1)
    correspondence = {row.metric: row for row in found if row.dimension == "correspondence"}
    assert correspondence["clipscore"].srcc.value == pytest.approx(-1)
    assert correspondence["clipscore"].asked == 20


def test_a_constant_metric_has_no_correlation():
    found = agreements(rows(), Scored(entries_of(rows()), {"ssim": scores([1.0] * 40)}, {}))
    assert all((row.srcc, row.plcc, row.krcc) == (None, None, None) for row in found)


def test_pictures_in_memory_cannot_be_scored():
    with pytest.raises(BadInput, match="must be files"):
        entries_of([JudgedPicture(image=Image.new("RGB", (4, 4)))])


def test_the_command_scores_and_correlates(tmp_path, capsys):
    lines = []
    for i in range(12):
        Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "prompt": "a cat", "perception": i}) + "\n")
    (tmp_path / "r.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "vernissage.toml").write_text('clip = { driver = "fake" }\ndinov2 = false\nmllm = { driver = "fake" }\n', encoding="utf-8")
    assert len(read_judged(tmp_path / "r.jsonl")) == 12
    with pytest.raises(SystemExit) as ended:
        main(["bench", "metrics", "--data", str(tmp_path / "r.jsonl"), "--metrics", "clipscore", "--out", str(tmp_path / "out")])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "clipscore │ perception │" in shown
    assert "12/12" in shown
    ((_, row),) = read_rows(tmp_path / "out" / "agreement.csv", "agreement", ("metric", "srcc", "srcc_low"))
    assert (row["metric"], row["dimension"], row["scored"], row["asked"]) == ("clipscore", "perception", "12", "12")
    assert f"{float(row['srcc']):.3f} [" in shown
    assert [row["prompt"] for _, row in read_rows(tmp_path / "out" / "scores.csv", "scores", ("clipscore",))] == ["a cat"] * 12
    assert (tmp_path / "out" / "perception.svg").read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(SystemExit):
        main(["bench", "metrics", "--data", str(tmp_path / "r.jsonl"), "--metrics", "clip-fid", "--out", str(tmp_path / "out")])
    assert "picture by picture" in capsys.readouterr().err
