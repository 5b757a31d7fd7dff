"""Training planners: Base on whole plans, Evo on prompts and then on ModelTokens (ChatGen).

A training that was cut off goes on where it stopped. Arguments are not trained: Evo reads them off demonstrations.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tomli_w
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vernissage.datasets.queries import Query, content_hash
from vernissage.errors import BadInput
from vernissage.local.adapter_spec import AdapterSpec
from vernissage.local.adapters import Trained, adapter_tensors, add_adapter, use_adapter
from vernissage.local.branches import Branch
from vernissage.local.device import pick_device, pick_precision
from vernissage.local.tensors import read_tensors, save_tensors
from vernissage.local.training import read_kept, training_steps
from vernissage.painting.likeness import Shelf
from vernissage.painting.nn.model_tokens import Samples, choose_model, train_model_tokens, word_mass
from vernissage.painting.nn.network import ADAPTER, PROMPTS, STATES, Network, Weights, chat_question, load_network, save_planner
from vernissage.painting.nn.new_models import RowMap, fit_row_map
from vernissage.painting.nn.planner import about, shown_as
from vernissage.painting.planner_spec import CARDS, DEMONSTRATIONS, PlannerSpec
from vernissage.painting.recipe import PlannerRecipe
from vernissage.painting.reply import PlanReply
from vernissage.ports import Progress
from vernissage.processes import work_at
from vernissage.prompts import load_prompt
from vernissage.records.demonstration import Demonstration
from vernissage.records.files import write_whole
from vernissage.records.picture import Picture
from vernissage.zoo.card import load_card
from vernissage.zoo.catalogue import load_cards, model_place, seen_from


class Lesson(NamedTuple):
    """A query in tokens."""

    opening: str
    pictures: list[Image.Image]
    answer: str


def train_planner(recipe: PlannerRecipe, queries: Sequence[Query], *, progress: Progress | None = None) -> PlannerSpec:
    """Train a planner and leave it in the recipe's folder.

    Args:
        recipe: How.
        queries: To learn from.
        progress: Called with (done, total) steps of the adapter's training.

    Raises:
        BadInput: The folder holds another training, another process trains there, or a picture cannot be read.
        DriverError: The backbone cannot be loaded.
    """
    if not queries:
        raise BadInput("There are no queries to learn from.", hint="Name a file of them with `data`.")
    recipe.out.mkdir(parents=True, exist_ok=True)
    _place = work_at(recipe.out)
    for image in {image for query in queries for image in query.chat.images}:
        if not image.is_file():
            raise BadInput(f"There is no picture {image}, which a query is about.", hint="Correct its path, or leave the query out.")
    torch.manual_seed(recipe.seed)
    device = pick_device("auto")
    place = model_place(recipe.backbone, recipe.out)
    network = load_network(place, device=device, dtype="float32", brief=recipe.brief, revision=recipe.revision)
    _check_same(recipe, queries, network.fingerprint)
    adapter = AdapterSpec(parts=recipe.parts, rank=recipe.rank, alpha=recipe.alpha) if recipe.parts else None
    if adapter is not None:
        add_adapter(network.backbone, ADAPTER, parts=adapter.parts, rank=adapter.rank, alpha=adapter.alpha)
        network.backbone.to(device)
        use_adapter(network.backbone, ADAPTER, learning=True)
        for done, total in _train_words(network, recipe, queries):
            if progress:
                progress(done, total)
        use_adapter(network.backbone, ADAPTER)
    models = tuple(dict.fromkeys(query.plan.model for query in queries)) if recipe.kind == "evo" else ()
    weights, measured = _train_tokens(network, recipe, queries, models) if models else (Weights(), {})
    spec = PlannerSpec(
        name=recipe.name,
        kind=recipe.kind,
        backbone=seen_from(recipe.out, recipe.backbone),
        revision=recipe.revision,
        fingerprint=network.fingerprint,
        brief=recipe.brief,
        adapter=adapter,
        models=models,
        shown=recipe.shown,
        prompts={prompt: load_prompt(prompt).hash for prompt in PROMPTS[recipe.kind]},
        trained={
            "recipe": recipe.model_dump(mode="json", exclude={"out", "data", "backbone", "cards"}),
            "queries": len(queries),
            "torch": torch.__version__,
            "precision": pick_precision(recipe.precision, device),
            **measured,
        },
    )
    if recipe.kind == "evo":
        _keep_demonstrations(recipe, queries)
    if recipe.cards is not None:
        _bring_cards(recipe.cards, recipe.out / CARDS)
    save_planner(recipe.out, network, spec, weights)
    return spec


def _train_words(network: Network, recipe: PlannerRecipe, queries: Sequence[Query]) -> Iterator[tuple[int, int]]:
    """The adapter learns prompts or plans; yields (done, total)."""
    learning = adapter_tensors(network.backbone, ADAPTER)
    optimizer = torch.optim.AdamW(learning.values(), lr=recipe.lr, weight_decay=0.01)
    steps = math.ceil(recipe.epochs * len(queries) / recipe.batch_size)
    loop = training_steps(
        recipe.out / "training",
        steps,
        optimizer,
        peak=recipe.lr,
        modules={"adapter": Trained(learning)},  # pyright: ignore
    )
    device = network.backbone.device
    shelves = _shelves(queries) if recipe.kind == "evo" and recipe.practice else {}
    for step, losses in loop:
        rows = _rows_of(step, recipe, len(queries))
        lessons = [lesson_of(network, recipe.kind, queries[row]) for row in rows]
        branches = [[_branch(network, "", lesson.answer)] for lesson in lessons]
        for own, row in list(zip(branches, rows, strict=True))[::2] if shelves else ():
            own += _practice(network, recipe, queries[row], shelves)
        with torch.autocast(device.type, torch.bfloat16, enabled=pick_precision(recipe.precision, device) == "bf16"):
            hidden, packed = network.read([each.opening for each in lessons], [each.pictures for each in lessons], branches)
            before = packed.before.to(device)
            logits = network.backbone.get_output_embeddings()(hidden[before[:, 0], before[:, 1]])
        loss = F.cross_entropy(logits.float(), packed.answers.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.values(), 1.0)
        optimizer.step()
        losses["loss"] = loss.item()
        yield step + 1, steps


def _branch(network: Network, question: str, answer: str) -> Branch:
    """A question that may hold turns of the template, and an answer in plain words to learn."""
    return Branch(network.dialogue.ids(question) if question else [], [*network.dialogue.ids(network.dialogue.escape(answer)), network.end])


def _shelves(queries: Sequence[Query]) -> dict[str, Shelf]:
    """The plans of each model, to be read as demonstrations of it."""
    by_model: dict[str, list[Demonstration]] = {}
    for query in queries:
        by_model.setdefault(query.plan.model, []).append(Demonstration(id=query.id, plan=query.plan))
    return {model: Shelf(own) for model, own in by_model.items()}


def _practice(network: Network, recipe: PlannerRecipe, query: Query, shelves: dict[str, Shelf]) -> list[Branch]:
    """The dialogue's second turn: the query's arguments, read off other demonstrations of its model; nothing where there are none."""
    near = shelves[query.plan.model].nearest(query.plan.prompt, recipe.shown + 4)
    shown = [each for each in near if each.id != query.id and each.plan.prompt != query.plan.prompt][: recipe.shown]
    if not shown:
        return []
    question = network.question("painting/arguments", model=query.plan.model, demonstrations=[shown_as(each) for each in shown])
    said = network.dialogue.escape(query.plan.prompt) + network.dialogue.next_question(question)
    return [_branch(network, said, shown_as(Demonstration(id=query.id, plan=query.plan))["answer"])]


def _rows_of(step: int, recipe: PlannerRecipe, count: int) -> list[int]:
    """The queries of a step: each epoch's order is drawn anew, the same after a restart."""
    rows = []
    for place in range(step * recipe.batch_size, (step + 1) * recipe.batch_size):
        epoch, offset = divmod(place, count)
        rows.append(int(np.random.default_rng([recipe.seed, epoch]).permutation(count)[offset]))
    return rows


def lesson_of(network: Network, kind: str, query: Query) -> Lesson:
    """A query as a question and the answer to learn.

    Raises:
        BadInput: A picture cannot be read.
    """
    pictures = [Picture.open(image).image for image in query.chat.images]
    plan = query.plan
    if kind == "evo":
        return Lesson(chat_question(network, "painting/prompt", query.chat, len(pictures)), pictures, plan.prompt)
    answer = PlanReply(
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
        model=plan.model,
        **plan.arguments.model_dump(include=set(PlanReply.model_fields)),
    )
    return Lesson(chat_question(network, "painting/plan", query.chat, len(pictures)), pictures, answer.model_dump_json())


def states_of(network: Network, queries: Sequence[Query]) -> Tensor:
    """The hidden state after each query's chat and prompt; see `Network.states`."""
    found = []
    for start in range(0, len(queries), STATES):  # so that few pictures are open at once
        part = queries[start : start + STATES]
        pictures = [[Picture.open(image).image for image in query.chat.images] for query in part]
        found.append(network.states([query.chat for query in part], pictures, [query.plan.prompt for query in part]))
    return torch.cat(found)


def _train_tokens(
    network: Network, recipe: PlannerRecipe, queries: Sequence[Query], models: Sequence[str]
) -> tuple[Weights, dict[str, float]]:
    """W_M by the exact shortcut: one pass of the backbone, kept on disk, then a logistic regression."""
    path = recipe.out / "training" / "states.safetensors"
    hidden = read_tensors(path)["hidden"] if path.exists() else states_of(network, queries)
    if not path.exists():
        save_tensors({"hidden": hidden}, path)
    head = network.backbone.get_output_embeddings()
    words = word_mass(hidden, head.weight.detach().float().cpu(), bias=None if head.bias is None else head.bias.detach().float().cpu())
    number = {model: place for place, model in enumerate(models)}
    targets = torch.tensor([number[query.plan.model] for query in queries])
    losses: list[float] = []
    tokens = train_model_tokens(
        Samples(hidden, words, targets),
        len(models),
        epochs=recipe.token_epochs,
        lr=recipe.token_lr,
        weight_decay=recipe.token_weight_decay,
        batch_size=recipe.token_batch_size,
        seed=recipe.seed,
        watch=lambda _epoch, loss: losses.append(loss),
    )
    right = (choose_model(hidden, words, tokens).models.argmax(dim=1) == targets).float().mean()
    measured = {"token_loss": losses[-1], "token_accuracy": float(right)}
    if recipe.cards is None:
        return Weights(tokens, None), measured
    measured["models_without_card"] = len(set(models) - load_cards(recipe.cards).keys())
    return Weights(tokens, _fit_row_map(network, recipe, queries, models, tokens, hidden, targets)), measured


def _fit_row_map(
    network: Network,
    recipe: PlannerRecipe,
    queries: Sequence[Query],
    models: Sequence[str],
    tokens: Tensor,
    hidden: Tensor,
    targets: Tensor,
) -> RowMap | None:
    """From texts about the trained models: each one's description, and the same with some of its prompts."""
    cards = load_cards(recipe.cards) if recipe.cards is not None else {}
    prompts: dict[str, list[str]] = {}
    for query in queries:
        prompts.setdefault(query.plan.model, []).append(query.plan.prompt)
    features, about_model = [], []
    for number, model in enumerate(models):
        if model in cards:
            states = network.states(*about(cards[model].description, prompts[model]))
            features += [states[0], states.mean(dim=0)]
            about_model += [number, number]
    if len(set(about_model)) < len(models):
        return None  # some have no card; a map of the others would not know them
    return fit_row_map(torch.stack(features), torch.tensor(about_model), tokens, hidden, targets)


def _bring_cards(source: Path, target: Path) -> None:
    """Cards that go along with the planner, and no others; their weights stay where they are and are named by whole paths."""
    cards = {path.name: load_card(path) for path in sorted(source.glob("*.toml"))}
    target.mkdir(exist_ok=True)
    for path in target.glob("*.toml"):
        if path.name not in cards:  # an earlier run brought it
            path.unlink()
    for name, card in cards.items():
        values = card.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        origin = values["source"]
        if card.source.path is not None:
            origin["path"] = str(card.resolve(card.source.path))
        if card.source.loras:
            origin["loras"] = [each.model_dump() | {"path": str(card.resolve(each.path))} for each in card.source.loras]
        if card.source.parts:
            origin["parts"] = {part: str(card.resolve(folder)) for part, folder in card.source.parts.items()}
        if card.source.config and card.resolve(card.source.config).is_dir():
            origin["config"] = str(card.resolve(card.source.config))
        write_whole(target / name, tomli_w.dumps(values))


def _keep_demonstrations(recipe: PlannerRecipe, queries: Sequence[Query]) -> None:
    """What arguments are read off: of each model the first few plans with prompts of their own."""
    kept: dict[str, dict[str, Demonstration]] = {}
    for query in queries:
        own = kept.setdefault(query.plan.model, {})
        if len(own) < recipe.kept:
            plan = query.plan.model_copy(update={"choices": ()})
            own.setdefault(plan.prompt, Demonstration(id=query.demonstration or query.id, plan=plan))
    lines = [each.model_dump_json(exclude_defaults=True) + "\n" for own in kept.values() for each in own.values()]
    write_whole(recipe.out / DEMONSTRATIONS, "".join(lines))


def _check_same(recipe: PlannerRecipe, queries: Sequence[Query], backbone: str) -> None:
    """Remember recipe, queries, backbone and prompts beside the training, and refuse to go on with others.

    Raises:
        BadInput: The folder holds another training.
    """
    path, values = recipe.out / "recipe.json", recipe.model_dump(mode="json", exclude={"out", "data", "backbone", "cards"})
    said = {prompt: load_prompt(prompt).hash for prompt in PROMPTS[recipe.kind]}
    values |= {"queries": content_hash(queries), "fingerprint": backbone, "prompts": said}
    kept = read_kept(path)
    if any(name in kept and kept[name] != value for name, value in values.items()):  # an older version kept less
        raise BadInput(
            f"{recipe.out} holds a training of another recipe, other queries, other prompts or another backbone.",
            hint="Choose another `out`, or delete that folder.",
        )
    write_whole(path, json.dumps(values, indent=1))
