"""The mini ChatGenBench: trained planners step by step, with true prompts and models given, for new models, and painted.

Command:   .venv/bin/python benchmarks/mini_chatgen.py [--limit 1225] [--paint 60] [--times 5] [--record]
Protocol:  1,225 held-out chats (scenes and voices that no training saw) of a community of 49 T2I models, 12 of them rare (5 training
           chats; few-shot), whose names tell nothing. Evo and Base are the shipped planners, trained on the same 3,390 chats from the
           same backbone with adapters of the same rank; baseline rewords and takes one model. Prompt: BERTScore F (mini CLIP's text
           part), rescaled; selection; arguments: mean of exact match. 95 % bootstrap intervals over chats; differences are paired.
           New models: each of the 49 left out in turn, ModelTokens trained without it, its row guessed from its card's description
           alone; among the five likeliest for its own test chats, and what the others lose. Speed: seconds a query, Evo over Base,
           same chats in batches of 8, medians of --times rounds after a warm-up. Pictures: the first --paint chats.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from record import RESULTS, append_result

from vernissage.api import Studio
from vernissage.bench.chatgen import Prompts, differences, open_run, read_items, run_benchmark, table
from vernissage.bench.chatgen_pictures import paint_items, score_pictures
from vernissage.datasets.queries import Query, read_queries
from vernissage.metrics.interval import mean_interval
from vernissage.painting.nn.model_tokens import Samples, train_model_tokens, word_mass
from vernissage.painting.nn.network import load_planner
from vernissage.painting.nn.new_models import fit_row_map
from vernissage.painting.nn.planner import about
from vernissage.painting.nn.training import states_of
from vernissage.wiring import planner_config
from vernissage.zoo.catalogue import package_folder

CHATS = Path("build/mini/chats")
RUNS = Path("build/mini-chatgen")
METRICS = ("clip-fid", "clipscore", "judge-perception", "judge-correspondence")
TOP = 5
AGAIN = ("new models", "seconds a query")


def steps(queries: list[Query], known: str, names: list[str]) -> tuple[dict, object]:
    studio = Studio(Studio().config.model_copy(update={"planner": planner_config("evo")}))
    run = open_run(RUNS / f"{known}-{len(queries)}", studio, names, queries, known)
    run_benchmark(
        run,
        studio,
        {name: studio.planner_maker(name) for name in names},
        queries,
        progress=lambda d, n: print(f"{known} {d}/{n}", end="\r"),
    )
    items = read_items(run, queries)
    prompts = Prompts(studio.text_encoder, queries)
    rows = table(items, prompts)
    for row in rows:
        shown = f"prompt {row.prompt}  model {row.selection}  five {row.among_five}  arguments {row.arguments}"
        print(f"{row.planner:<9} {row.part:<11} {row.scored}/{row.asked}  {shown}")
    gaps = differences(items, prompts)
    for gap in gaps:
        print(f"{gap.first} - {gap.second} {gap.measure}: {gap.difference}")
    figures = {
        "rows": [row._asdict() | {"by_argument": {name: list(each) for name, each in row.by_argument.items()}} for row in rows],
        "differences": [[gap.first, gap.second, gap.measure, list(gap.difference)] for gap in gaps],
    }
    return figures, (run, studio, items)


def new_models(train: list[Query], test: list[Query]) -> dict:
    """Every model left out in turn; see the protocol."""
    device = torch.device("cpu")
    network, spec, _ = load_planner(package_folder("mini") / "planner-evo", device=device, dtype="float32")
    recipe = spec.trained["recipe"]
    hidden, tested = states_of(network, train), states_of(network, test)
    head = network.backbone.get_output_embeddings().weight.float()
    words = word_mass(hidden, head)
    number = {model: place for place, model in enumerate(spec.models)}
    targets = torch.tensor([number[query.plan.model] for query in train])
    wanted = torch.tensor([number[query.plan.model] for query in test])
    cards = Studio(Studio().config.model_copy(update={"planner": planner_config("evo")})).all_models
    prompts: dict[str, list[str]] = {}
    for query in train:
        prompts.setdefault(query.plan.model, []).append(query.plan.prompt)
    states = {model: network.states(*about(cards[model].description, prompts[model])) for model in spec.models}
    settings = {"lr": recipe["token_lr"], "weight_decay": recipe["token_weight_decay"], "epochs": recipe["token_epochs"]}
    own, lost = [], []
    for left_out in range(len(spec.models)):
        others = [place for place in range(len(spec.models)) if place != left_out]
        place_of = {model: place for place, model in enumerate(others)}
        kept = targets != left_out
        fewer = torch.tensor([place_of[int(target)] for target in targets[kept]])
        tokens = train_model_tokens(Samples(hidden[kept], words[kept], fewer), len(others), **settings)
        features = torch.stack(
            [each for place in others for each in (states[spec.models[place]][0], states[spec.models[place]].mean(dim=0))]
        )
        models = torch.arange(len(others)).repeat_interleave(2)
        row = fit_row_map(features, models, tokens, hidden[kept], fewer).rows(tokens, states[spec.models[left_out]][:1])
        scores = tested @ torch.cat([tokens, row]).T
        mine = wanted == left_out
        own += (scores[mine].topk(TOP, dim=1).indices == len(others)).any(dim=1).float().tolist()
        rest = torch.tensor([place_of[int(each)] for each in wanted[~mine]])
        with_new, without = scores[~mine].argmax(dim=1) == rest, scores[~mine][:, :-1].argmax(dim=1) == rest
        lost.append(float(without.float().mean() - with_new.float().mean()))
        print(f"left out {left_out + 1}/{len(spec.models)}", end="\r")
    found = {"own_among_five": mean_interval(torch.tensor(own).numpy()), "lost_by_others": mean_interval(torch.tensor(lost).numpy())}
    chance = 100 * TOP / len(spec.models)
    print(f"new models: among five {found['own_among_five']} (chance {chance:.1f}); others lose {found['lost_by_others']}")
    return {name: list(each) for name, each in found.items()} | {"chance": TOP / len(spec.models)}


def speed(queries: list[Query], times: int) -> dict:
    studio = Studio(Studio().config.model_copy(update={"planner": planner_config("evo")}))
    text_only = [query.chat for query in queries if not query.chat.images][:64]
    planners = {name: studio.planner_maker(name)() for name in ("evo", "base")}
    spent: dict[str, list[float]] = {name: [] for name in planners}
    for _ in range(times + 1):
        for name, planner in planners.items():
            started = time.perf_counter()
            planner.plan(text_only, [[]] * len(text_only), studio.catalogue)
            spent[name].append((time.perf_counter() - started) / len(text_only))
    medians = {name: statistics.median(values[1:]) for name, values in spent.items()}
    print(f"seconds a query: {medians}; Evo over Base {medians['evo'] / medians['base']:.2f}")
    return medians | {"ratio": medians["evo"] / medians["base"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=1225)
    parser.add_argument("--paint", type=int, default=60)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--only", choices=AGAIN, help="measure this again; the rest is that of the newest result")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    train, test = read_queries(CHATS / "train.jsonl"), read_queries(CHATS / "test.jsonl")[: arguments.limit]
    figures: dict = {}
    if arguments.only:
        row = json.loads((RESULTS / "mini_chatgen.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        again = new_models(train, test) if arguments.only == "new models" else speed(test, arguments.times)
        if arguments.record:
            append_result("mini_chatgen", row["figures"] | {arguments.only: again}, **row["settings"] | {"measured_again": arguments.only})
        return
    figures["steps"], (run, studio, items) = steps(test, "nothing", ["evo", "base", "baseline"])
    for known in ("prompt", "model"):
        figures[f"{known} given"], _ = steps(test, known, ["evo"])
    figures["new models"] = new_models(train, test)
    figures["seconds a query"] = speed(test, arguments.times)
    if arguments.paint:
        entries, _ = paint_items(run, studio, items, arguments.paint)
        drawn, duels = score_pictures(run, studio, entries, METRICS, asked=arguments.paint)
        for row in drawn:
            print(row)
        for duel in duels:
            print(duel)
        figures["painted"] = [row._asdict() for row in drawn]
        figures["duels"] = [list(duel) for duel in duels]
    if arguments.record:
        append_result("mini_chatgen", figures, chats=len(test), painted=arguments.paint)


if __name__ == "__main__":
    main()
