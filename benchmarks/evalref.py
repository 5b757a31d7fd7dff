"""Do real pictures, of any size and kind, go through the whole of repainting? What fails must be counted, not end the run.

Command:   .venv/bin/python benchmarks/evalref.py [--data ../shared/data/evalref-sample] [--record]
Protocol:  the twelve sample pictures of EvalRef-100 with `bench repaint`, mini/general, 4 rounds of 3, on the mini studio, which
           knows nothing of such pictures: its scores say little, that every reference ends as a result or as Unscored says all.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from record import append_result

from vernissage.api import Studio
from vernissage.bench.references import find_references
from vernissage.bench.repaint import open_run, read_items, run_benchmark, score_names, score_of
from vernissage.records.verdict import Score
from vernissage.repainting.loop import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "evalref-sample")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio, references, settings = Studio(), find_references(arguments.data), Settings()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run = open_run(Path(folder) / "run", studio, ["mini/general"], references, settings)
        run_benchmark(run, studio, references, settings)
        seconds = time.monotonic() - started
        items = read_items(run.header, run.items)
    scored = {name: sum(isinstance(score_of(item, name, "last"), Score) for item in items) for name in score_names(items)}
    figures = {
        "references": len(references),
        "repainted": sum(item.regeneration is not None for item in items),
        "unscored": dict(Counter(item.unscored for item in items if item.regeneration is None)),
        "failures": dict(Counter(failure.split(":")[0] for item in items if item.regeneration for failure in item.regeneration.failures)),
        "scored": scored,
        "seconds": round(seconds),
    }
    print(figures)
    assert len(items) == len(references)
    if arguments.record:
        append_result("evalref", figures)


if __name__ == "__main__":
    main()
