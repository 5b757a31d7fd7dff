"""How fast is the Frechet distance at Inception's 2,048 features, and is it the same number?

Command:   pip install --no-deps torchmetrics lightning-utilities torch-fidelity pytorch-fid
           .venv/bin/python benchmarks/fid_speed.py [--features 2048] [--times 5] [--record]
Protocol:  statistics of two sets of 5,000 random features with a spectrum that falls as in real features (seed 3), then only the
           distance from mean and covariance, as each package computes it. Side by side in one run, medians after a warm-up;
           packages that are not installed are left out and said so. pytorch-fid takes a minute a time, so it runs once.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import numpy as np
import torch
from record import append_result

from vernissage.metrics.distribution import frechet_distance, gather


def load_peers() -> dict:
    """The other packages' own functions of (mean, covariance, mean, covariance).

    All of them import torchvision, which has no part in this computation; where it is absent, a stub stands in its place.
    """
    peers = {}
    if importlib.util.find_spec("torchvision") is None:
        for name in ("", ".transforms", ".transforms.functional", ".models", ".datasets"):
            sys.modules[f"torchvision{name}"] = MagicMock(__spec__=ModuleSpec("torchvision", None), __version__="0")
    try:
        from torchmetrics.image.fid import _compute_fid

        peers["torchmetrics"] = lambda *stats: float(_compute_fid(*(torch.from_numpy(part) for part in stats)))
    except ImportError as error:
        print(f"torchmetrics left out: {error}")
    try:
        from torch_fidelity.metric_fid import fid_statistics_to_metric

        def torch_fidelity(m1, c1, m2, c2) -> float:
            found = fid_statistics_to_metric({"mu": m1, "sigma": c1}, {"mu": m2, "sigma": c2}, False)
            return float(next(iter(found.values())))

        peers["torch-fidelity"] = torch_fidelity
    except ImportError as error:
        print(f"torch-fidelity left out: {error}")
    try:
        from pytorch_fid.fid_score import calculate_frechet_distance

        peers["pytorch-fid"] = lambda m1, c1, m2, c2: float(calculate_frechet_distance(m1, c1, m2, c2))
    except ImportError as error:
        print(f"pytorch-fid left out: {error}")
    return peers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    rng = np.random.default_rng(3)
    d = arguments.features
    spectrum = 1 / np.sqrt(np.arange(1, d + 1))
    one, two = (gather(rng.normal(size=(5000, d)) * spectrum + shift) for shift in (0.0, 0.02))
    stats = (one.mean, one.covariance, two.mean, two.covariance)
    ways = {"vernissage": lambda *_: frechet_distance(one, two), **load_peers()}
    seconds, values = {name: [] for name in ways}, {}
    for turn in range(arguments.times + 1):
        for name, way in ways.items():
            if name == "pytorch-fid" and turn > 1:
                continue
            started = time.perf_counter()
            values[name] = way(*stats)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(several) for name, several in seconds.items()}
    figures = {}
    for name, median in medians.items():
        ratio, apart = median / medians["vernissage"], abs(values[name] / values["vernissage"] - 1)
        figures[name] = {"seconds": median, "times_slower": ratio, "relative_difference": apart}
        print(f"{name:<16} {median:8.2f} s  {ratio:6.1f} times ours  value differs by {apart:.1e}")
    if arguments.record:
        append_result("fid_speed", figures, features=d, times=arguments.times)


if __name__ == "__main__":
    main()
