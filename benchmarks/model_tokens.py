"""How much faster are ModelTokens trained when hidden states are computed once, and do thousands of models fit on two cores?

Command:   .venv/bin/python benchmarks/model_tokens.py [--chats 512] [--large] [--record]
Protocol:  the mini MLLM as backbone, plan questions of training chats with their prompts, the models of the mini zoo as targets; 5 epochs
           of AdamW from the same rows, in the same order. Naive: the backbone in every step. Shortcut: hidden states and masses once, then
           the logistic regression; told with and without the one pass of the backbone. --large: 6,807 models, 150,000 samples,
           width 2,048, random states; 5 epochs, with peak memory.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from record import append_result
from torch.nn import functional as F
from transformers import AutoTokenizer, InternVLForConditionalGeneration

from vernissage.painting.nn.model_tokens import Samples, train_model_tokens, word_mass
from vernissage.world.chats import sample_chat
from vernissage.zoo.catalogue import package_folder

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes" / "mini"))
from lessons import best_model, perfect_plan, plan_question

BATCH, EPOCHS, LR = 32, 5, 1e-3


def chats(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, InternVLForConditionalGeneration, list[str]]:
    """Tokens padded on the left, their mask, targets, backbone, models."""
    folder = package_folder("mini") / "mllm"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = InternVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    rng, texts, names = np.random.default_rng(3), [], []
    while len(texts) < count:
        chat = sample_chat(rng)
        if chat.reference is None:
            texts.append(plan_question(chat) + "\n" + perfect_plan(chat).prompt)
            names.append(best_model(chat.wanted.style).id)
    tokens = tokenizer(texts, return_tensors="pt", padding=True)
    models = sorted(set(names))
    return tokens.input_ids, tokens.attention_mask, torch.tensor([models.index(name) for name in names]), model, models


@torch.no_grad()
def states(model, ids, mask) -> torch.Tensor:
    return model.model.language_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]


def compare(count: int) -> dict:
    ids, mask, targets, model, models = chats(count)
    head = model.lm_head.weight
    start = torch.randn(len(models), head.shape[1], generator=torch.Generator().manual_seed(5)) * 0.02
    began = time.perf_counter()
    rng = torch.Generator().manual_seed(0)
    tokens = start.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([tokens], lr=LR, weight_decay=1.0)
    for _ in range(EPOCHS):
        slow_loss = 0.0
        for chosen in torch.randperm(len(ids), generator=rng).split(BATCH):
            logits = states(model, ids[chosen], mask[chosen]) @ torch.cat([head, tokens]).T
            loss = F.cross_entropy(logits, len(head) + targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slow_loss += loss.item() * len(chosen) / len(ids)
    naive = time.perf_counter() - began
    began = time.perf_counter()
    hidden = torch.cat([states(model, *parts) for parts in zip(ids.split(BATCH), mask.split(BATCH), strict=True)])
    samples = Samples(hidden, word_mass(hidden, head), targets)
    once = time.perf_counter() - began
    losses: list[float] = []
    began = time.perf_counter()
    found = train_model_tokens(
        samples, len(models), start=start, lr=LR, batch_size=BATCH, epochs=EPOCHS, watch=lambda _, loss: losses.append(loss)
    )
    trained = time.perf_counter() - began
    same = (hidden @ found.T).argmax(1) == (hidden @ tokens.detach().T).argmax(1)
    return {
        "samples": len(ids),
        "models": len(models),
        "naive_s": naive,
        "states_once_s": once,
        "training_s": trained,
        "loss_apart": abs(losses[-1] - slow_loss),
        "same_choices": float(same.float().mean()),
        "right": float(((hidden @ found.T).argmax(1) == targets).float().mean()),
    }


def large() -> dict:
    count, samples, width = 6807, 150_000, 2048
    torch.manual_seed(0)
    centres = torch.randn(count, width)
    targets = torch.randint(count, (samples,))
    hidden = torch.empty(samples, width, dtype=torch.bfloat16)
    for start in range(0, samples, 10_000):
        part = slice(start, start + 10_000)
        hidden[part] = (centres[targets[part]] + 3 * torch.randn(len(targets[part]), width)).to(torch.bfloat16)
    began = time.perf_counter()
    losses: list[float] = []

    def watch(epoch: int, loss: float) -> None:
        losses.append(loss)
        print(f"epoch {epoch}: loss {loss:.4f}, {time.perf_counter() - began:.0f} s", flush=True)

    data = Samples(hidden, torch.full((samples,), 12.0), targets)
    train_model_tokens(data, count, batch_size=1024, lr=1e-3, weight_decay=0.01, epochs=EPOCHS, watch=watch)
    return {
        "models": count,
        "samples": samples,
        "width": width,
        "seconds": time.perf_counter() - began,
        "losses": losses,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=512)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    figures = large() if arguments.large else compare(arguments.chats)
    for name, value in figures.items():
        print(f"{name:<16} {value}")
    if not arguments.large:
        print(
            f"training alone {figures['naive_s'] / figures['training_s']:.0f} x, with the one pass of the backbone "
            f"{figures['naive_s'] / (figures['training_s'] + figures['states_once_s']):.1f} x"
        )
    if arguments.record:
        append_result("model_tokens_large" if arguments.large else "model_tokens", figures)


if __name__ == "__main__":
    main()
