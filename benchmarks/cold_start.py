"""How long from the command to the picture on disk, in a fresh process, and how much memory?

Command:   .venv/bin/python benchmarks/cold_start.py [--times 5] [--record]
Protocol:  `vernissage paint` in a new process, five times after one warm-up of the disk cache; median wall-clock
           seconds and the largest peak memory of the process. Likewise `vernissage --help`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

from record import append_result


def run(arguments: list[str]) -> tuple[float, float]:
    """Wall-clock seconds and peak resident memory (MB) of one `vernissage` call."""
    started = time.monotonic()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, "-m", "vernissage", *arguments], os.environ, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, f"vernissage {arguments} failed"
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            "help": ["--help"],
            "paint": ["paint", "two yellow stars over the sea at night, neon please", "--seed", "3", "--out", f"{folder}/a.png"],
        }
        for name, call in calls.items():
            run(call)
            taken = [run(call) for _ in range(arguments.times)]
            figures[name] = {"median_s": round(statistics.median(s for s, _ in taken), 2), "peak_mb": round(max(mb for _, mb in taken))}
            print(name, figures[name])
    if arguments.record:
        append_result("cold_start", figures, times=arguments.times)


if __name__ == "__main__":
    main()
