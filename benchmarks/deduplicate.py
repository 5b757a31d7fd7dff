"""How fast and how completely are near duplicates found among many short queries?

Command:   OMP_NUM_THREADS=2 .venv/bin/python benchmarks/deduplicate.py [--texts 100000] [--record]
Protocol:  requests of the mini world's training chats, most of which have a near double by chance; encoder: mini CLIP's text part.
           Seconds and the process's highest memory (resident) for all; recall of what is dropped against brute force (every pair
           compared token by token, same baseline) on 3,000 others.
"""

import argparse
import resource
import time

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.datasets.near_duplicates import THRESHOLD, drop_near_duplicates
from vernissage.metrics.bert_score import TokenFeatures, baseline, match_tokens
from vernissage.world.chats import sample_chat


def requests(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [sample_chat(rng, input_type="single").turns[-1][1] for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=3000)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    encoder = Studio().text_encoder
    texts = requests(arguments.texts, 1)
    started = time.perf_counter()
    kept = drop_near_duplicates(texts, encoder, progress=lambda done, total: print(f"{done}/{total}", end="\r"))
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(texts)} texts: {len(kept)} stay; {seconds:.0f} s, {memory:.2f} GB")
    sample = requests(arguments.sample, 2)
    features = [TokenFeatures(vectors.astype(np.float16).astype(np.float32), counted) for vectors, counted in encoder.encode_tokens(sample)]
    zero = baseline(features)
    fast = set(range(len(sample))) - set(drop_near_duplicates(sample, encoder, zero=zero))
    stays: list[bool] = []
    for row, own in enumerate(features):
        near = (other for other in range(row) if stays[other])
        stays.append(not any((match_tokens(own, features[other]).f - zero.f) / (1 - zero.f) > THRESHOLD for other in near))
    slow = {row for row, kept_row in enumerate(stays) if not kept_row}
    recall = len(fast & slow) / len(slow)
    print(f"brute force drops {len(slow)} of {len(sample)}, ours {len(fast)}; recall {recall:.4f}")
    if arguments.record:
        figures = {"seconds": seconds, "gigabytes": memory, "kept": len(kept), "recall": recall, "dropped_by_brute_force": len(slow)}
        append_result("deduplicate", figures, texts=arguments.texts, sample=arguments.sample)


if __name__ == "__main__":
    main()
