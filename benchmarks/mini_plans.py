"""How good are the plans of the mini studio's language model?

Command:   .venv/bin/python benchmarks/mini_plans.py [--chats 300] [--record]
Protocol:  300 chats of held-out scenes in held-out voices (seed 77), the three input types as frequent as in
           ChatGenBench. Valid: a plan that its model can paint. Facts kept: facts of the request that the plan's prompt
           states, over all chats (an invalid plan keeps none). Specialist: of the requests that name one of the four
           special styles, the share planned with that style's own model; compare chance (1 in 6) and always-general (0).
"""

import argparse
import time

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.metrics.interval import mean_interval, ratio_interval
from vernissage.painting.road import plan_chats
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Plan
from vernissage.world.chats import sample_chat
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, read_text

SPECIALIST = {"neon": "mini/neon", "pixel art": "mini/pixel", "sketch": "mini/sketch", "watercolour": "mini/watercolour"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=300)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio = Studio()
    rng = np.random.default_rng(77)
    asked = [sample_chat(rng, split="held-out") for _ in range(arguments.chats)]
    chats = [Chat(turns=tuple(Turn(role=role, text=text) for role, text in chat.turns)) for chat in asked]
    pictures = [[draw(chat.reference, seed=i).image] if chat.reference else [] for i, chat in enumerate(asked)]
    started = time.monotonic()
    plans = plan_chats(chats, pictures, studio.mllm, studio.catalogue)
    seconds = (time.monotonic() - started) / len(plans)
    valid = np.array([isinstance(plan, Plan) for plan in plans], dtype=float)
    checks = [
        check_facts(chat.wanted, read_text(plan.prompt if isinstance(plan, Plan) else "")) for chat, plan in zip(asked, plans, strict=True)
    ]
    right, total = np.array([sum(c.right for c in several) for several in checks]), np.array([len(several) for several in checks])
    special = [i for i, chat in enumerate(asked) if chat.wanted.style in SPECIALIST]
    chosen = np.array([isinstance(plans[i], Plan) and plans[i].model == SPECIALIST[asked[i].wanted.style] for i in special], dtype=float)
    figures = {"valid": mean_interval(valid), "facts_kept": ratio_interval(right, total), "specialist_chosen": mean_interval(chosen)}
    for input_type in ("single", "multimodal", "history"):
        rows = [i for i, chat in enumerate(asked) if chat.input_type == input_type]
        figures[f"facts_kept_{input_type}"] = ratio_interval(right[rows], total[rows])
    for name, estimate in figures.items():
        print(f"{name:<24} {estimate}  n = {estimate.n}")
    print(f"{seconds:.3f} s a chat, in batches of {studio.mllm.batch_size}")
    missed = [
        (chat.turns, plan.prompt if isinstance(plan, Plan) else str(plan))
        for chat, plan, r, t in zip(asked, plans, right, total, strict=True)
        if r < t
    ]
    for turns, prompt in missed[:5]:
        print("missed:", turns, "=>", prompt)
    if arguments.record:
        append_result("mini_plans", figures | {"seconds_per_chat": seconds}, chats=arguments.chats)


if __name__ == "__main__":
    main()
