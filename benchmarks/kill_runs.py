"""Does a benchmark run that is killed at random moments end with the table of a run that was left alone?

Command:   .venv/bin/python benchmarks/kill_runs.py [--kills 10] [--record]
Protocol:  `vernissage bench repaint` on the mini studio, 3 drawn references, 2 models, 2 rounds of 2 pictures. Once left alone; once
           killed with SIGKILL at random moments and started again each time, until it ends by itself. Compared: every item with
           all its scores, the number of lines, and the pictures in the folder.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from record import append_result

from vernissage.records.picture import Picture
from vernissage.world.draw import draw
from vernissage.world.scene import sample_scene

FOLDER = Path("build/kill-runs")


def command(out: Path) -> list[str]:
    options = ["--models", "mini/early,mini/general", "--data", str(FOLDER / "references"), "--rounds", "2", "--candidates", "2"]
    return [sys.executable, "-m", "vernissage", "bench", "repaint", *options, "--out", str(out)]


def items(out: Path) -> list[str]:
    """The lines of a run without what differs each time: seconds, and the last digits that the make-up of a batch decides."""

    def timeless(value):
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if "seconds" not in key}
        if isinstance(value, float):
            return round(value, 5)
        return [timeless(each) for each in value] if isinstance(value, list) else value

    lines = (out / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(json.dumps(timeless(json.loads(line)), sort_keys=True) for line in lines)


def pictures(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "pictures").rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    rng, lots = np.random.default_rng(4), random.Random(4)
    for index in range(3):
        Picture.of(draw(sample_scene(rng, split="held-out"), seed=index).image).save(FOLDER / "references" / f"scene_{index}.png")
    started = time.monotonic()
    subprocess.run(command(FOLDER / "alone"), check=True, capture_output=True)
    whole = time.monotonic() - started
    kills, killed_after = 0, []
    while True:
        process = subprocess.Popen(command(FOLDER / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patience = lots.uniform(0.1, 1.0) * whole if kills < arguments.kills else None
        try:
            code = process.wait(patience)
            assert code == 0, f"a resumed run ended with {code}"
            if kills >= arguments.kills:
                break
            shutil.rmtree(FOLDER / "killed")  # it came to its end before it was killed: begin anew, so that ten kills are kills
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            lines = FOLDER / "killed" / "items.jsonl"
            killed_after.append(len(lines.read_text(encoding="utf-8").splitlines()) if lines.exists() else 0)
    same = items(FOLDER / "alone") == items(FOLDER / "killed")
    figures = {
        "kills": kills,
        "items_done_when_killed": killed_after,
        "same_items": same,
        "items": len(items(FOLDER / "killed")),
        "same_pictures": pictures(FOLDER / "alone") == pictures(FOLDER / "killed"),
    }
    for name, value in figures.items():
        print(f"{name:<24} {value}")
    if arguments.record:
        append_result("kill_runs", figures)


if __name__ == "__main__":
    main()
