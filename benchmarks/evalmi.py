"""How long do EvalMi-50K's tables take, and how much memory? And are its means those of a plain computation?

Command:   .venv/bin/python benchmarks/evalmi.py [--data ../shared/data/evalmi-50k] [--times 5] [--record]
Protocol:  each command of `vernissage bench evalmi` in a process of its own, median wall-clock seconds and the largest peak
           memory: the human leaderboard of each dimension, and a judge whose 50,400 scores are people's with noise. The
           means of all models and tasks are compared with those of a loop over the authors' rows.
"""

import argparse
import csv
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import openpyxl
from cold_start import run
from record import append_result

from vernissage.bench.evalmi import human_leaderboard
from vernissage.datasets.evalmi import DIMENSIONS, FILES, TASKS, load_evalmi


def plain_means(data: Path) -> dict[tuple[str, str, str], float]:
    """Mean by dimension, model and task, straight from the rows of the authors' workbook."""
    task_of = {number: prompt.task for number, prompt in enumerate(load_evalmi(data).prompts, start=1)}
    rows = openpyxl.load_workbook(data / FILES["opinions"], read_only=True).worksheets[0].iter_rows(min_row=2, values_only=True)
    values = defaultdict(list)
    for name, *said in rows:
        model, _, file = str(name).rpartition("/")
        for dimension, value in zip(DIMENSIONS, said, strict=False):
            for task in ("all", task_of[int(file.split(".")[0])]):
                values[dimension, model, task].append(float(value))
    return {key: sum(own) / len(own) for key, own in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "evalmi-50k")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    table = load_evalmi(arguments.data)
    plain = plain_means(arguments.data)
    ours = {
        (dimension, place.model, task or "all"): place.estimate.value
        for dimension in DIMENSIONS
        for task in (None, *TASKS)
        for place in human_leaderboard(table, dimension, task, draws=2)
    }
    assert ours.keys() == plain.keys()
    figures: dict[str, object] = {"means": len(ours), "difference": max(abs(ours[key] - plain[key]) for key in ours)}
    print(f"{len(ours)} means, at most {figures['difference']:.1e} from those of a plain loop")
    with tempfile.TemporaryDirectory() as folder:
        judge = Path(folder) / "judge.csv"
        rng = np.random.default_rng(0)
        with judge.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "score"))
            for model, own in zip(table.models, table.opinions["perception"], strict=True):
                writer.writerows((f"{model}/{n:04d}.png", value + rng.normal(0, 10)) for n, value in enumerate(own, start=1))
        common = ["bench", "evalmi", "--data", str(arguments.data)]
        calls = {dimension: [*common, "--dimension", dimension] for dimension in DIMENSIONS}
        calls["a judge"] = [*common, "--predictions", str(judge)]
        for name, call in calls.items():
            run(call)  # a warm-up of the disk's cache
            taken = [run(call) for _ in range(arguments.times)]
            own = {"median_s": round(statistics.median(s for s, _ in taken), 2), "peak_mb": round(max(mb for _, mb in taken))}
            figures[name] = own
            print(name, own)
    if arguments.record:
        append_result("evalmi", figures, times=arguments.times)


if __name__ == "__main__":
    main()
