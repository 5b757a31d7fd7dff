"""How fast is BERTScore of many short pairs, side by side with the bert-score package, and are the numbers the same?

Command:   pip install --no-deps --target /tmp/peers bert-score
           PYTHONPATH=/tmp/peers .venv/bin/python benchmarks/bert_score_speed.py [--pairs 3000] [--record]
Protocol:  prompts of the mini world as candidates and references, many of them more than once, as in a benchmark; a BERT of 6 layers
           and width 256 with random weights and a WordPiece vocabulary of its own, layer 5, batches of 64, float32, no idf. Both read the
           same checkpoint. Medians of --times rounds after a warm-up; the largest difference of P, R and F over all pairs. The package is
           asked for one pair at a time for the comparison of numbers: in batches its padding can win where all cosines are negative.
"""

import argparse
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import torch
from record import append_result
from transformers import BertConfig, BertModel, BertTokenizerFast

from vernissage.drivers.encode_text import TransformersTextEncoder
from vernissage.metrics.bert_score import match_pairs
from vernissage.world import tell
from vernissage.world.scene import sample_scene

LAYER, BATCH = 5, 64


def checkpoint(folder: Path, texts: list[str]) -> None:
    words = sorted({word for text in texts for word in text.replace(",", " ,").split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=128).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
    BertModel(BertConfig(vocab_size=len(words) + 5, **size)).save_pretrained(folder)


def peer():
    for name in ("matplotlib", "matplotlib.pyplot", "mpl_toolkits", "mpl_toolkits.axes_grid1", "pandas"):  # for its plots alone
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["mpl_toolkits.axes_grid1"].make_axes_locatable = None
    import bert_score

    return bert_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    bert_score = peer()
    rng = np.random.default_rng(3)
    some = [tell.prompt(sample_scene(rng), rng) for _ in range(arguments.pairs // 2)]
    said, wanted = ([some[place] for place in rng.integers(len(some), size=arguments.pairs)] for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(Path(folder), some)
        options = {"model_type": folder, "num_layers": LAYER, "device": "cpu", "batch_size": BATCH}
        scorer = bert_score.BERTScorer(**options)
        encoder = TransformersTextEncoder(folder, layer=LAYER, batch_size=BATCH, device="cpu", dtype="float32")

        def ours() -> np.ndarray:
            features = encoder.encode_tokens(said + wanted)
            return match_pairs(features[: len(said)], features[len(said) :])

        spent: dict[str, list[float]] = {"ours": [], "bert-score": []}
        for _ in range(arguments.times + 1):
            for name, work in (("ours", ours), ("bert-score", lambda: scorer.score(said, wanted, batch_size=BATCH))):
                started = time.perf_counter()
                work()
                spent[name].append(time.perf_counter() - started)
        alone = [torch.stack(scorer.score([a], [b])).flatten().tolist() for a, b in zip(said[:200], wanted[:200], strict=True)]
        apart = float(np.abs(np.array(alone) - ours()[:200]).max())
    medians = {name: statistics.median(values[1:]) for name, values in spent.items()}
    ratio = medians["bert-score"] / medians["ours"]
    print(f"{medians}; {ratio:.2f} times; largest difference {apart:.1e}")
    if arguments.record:
        append_result("bert_score_speed", medians | {"ratio": ratio, "difference": apart}, pairs=arguments.pairs, times=arguments.times)


if __name__ == "__main__":
    main()
