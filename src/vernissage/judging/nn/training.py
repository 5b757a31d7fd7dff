"""Training a judge: first levels and answers in words, then scores (LMM4LMM).

Each picture is looked at once for everything that is known of it. A training that was cut off goes on where it stopped.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, set_seed
from numpy import ndarray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vernissage.datasets.judged import JudgedPicture, folds_by_prompt
from vernissage.errors import BadInput
from vernissage.judging.levels import level_of
from vernissage.judging.nn.checkpoint import load_judge, save_judge, trained_tensors
from vernissage.judging.nn.model import (
    NO,
    YES,
    JudgeModel,
    Question,
    add_heads,
    by_adapter,
    choose_adapter,
    load_backbone,
    question,
)
from vernissage.judging.nn.scoring import score_batch
from vernissage.judging.recipe import JudgeRecipe
from vernissage.judging.spec import SPEC, Dimension, HeadSpec, JudgeSpec, read_spec
from vernissage.local.adapter_spec import AdapterSpec
from vernissage.local.adapters import Trained, add_adapter
from vernissage.local.device import pick_device, pick_precision
from vernissage.local.training import read_kept, training_steps
from vernissage.metrics.correlation import or_none, srcc
from vernissage.ports import Progress
from vernissage.processes import Pool
from vernissage.prompts import load_prompt
from vernissage.records.files import write_whole
from vernissage.records.verdict import LEVELS
from vernissage.zoo.catalogue import model_place, seen_from

PROMPT_OF: dict[str, str] = {"perception": "judging/perception", "correspondence": "judging/correspondence", "answers": "judging/answer"}


class Split(NamedTuple):
    """What a training learns from, chooses by, and is tested on."""

    train: list[JudgedPicture]
    validation: list[JudgedPicture]
    test: list[JudgedPicture]


class Agreement(NamedTuple):
    """How well a judge agrees with people on some pictures; None where it is undefined or was not asked."""

    perception: float | None
    """SRCC."""
    correspondence: float | None
    """SRCC."""
    accuracy: float | None
    """Share of answers that are people's."""

    def mean_of(self, spec: JudgeSpec) -> float:
        """Of all that the judge gives, for choosing the best epoch; what is undefined, as where a head says the same of all, counts 0."""
        values = [getattr(self, dimension) for dimension in spec.heads] + ([self.accuracy] if spec.answers is not None else [])
        return sum(value or 0.0 for value in values) / len(values)


def train_judge(
    recipe: JudgeRecipe,
    train: Sequence[JudgedPicture],
    validation: Sequence[JudgedPicture],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> JudgeSpec:
    """Train a judge and leave the best epoch's in `folder`.

    Args:
        recipe: How.
        train: To learn from.
        validation: To choose the best epoch by; never the test set.
        folder: For the judge, and below it the state to resume from.
        progress: Called with (done, total) steps.

    Raises:
        BadInput: A dimension is asked for that nothing is known about, or the folder holds another training.
        DriverError: The backbone cannot be loaded.
    """
    accelerator = _accelerator(recipe)
    set_seed(recipe.seed)
    device = accelerator.device
    model = load_backbone(model_place(recipe.backbone, folder), device=device, dtype="float32", revision=recipe.revision)
    if accelerator.is_main_process:
        check_same(folder, recipe, [*train, *validation], backbone=model.fingerprint)
    accelerator.wait_for_everyone()
    spec = _describe(recipe, train, model, folder, precision=accelerator.mixed_precision)
    model.resize = recipe.resize
    add_heads(model, spec.heads)
    per_epoch = math.ceil(len(train) / recipe.batch_size)
    level_steps, steps = (math.ceil(share * per_epoch) for share in (recipe.level_epochs, recipe.epochs))
    level_steps = level_steps if recipe.levels else 0

    def report(done: int) -> None:
        if progress:
            progress(done, level_steps + steps)

    if recipe.checkpointing:
        # The newer name where there is one: the older warns.
        getattr(model.backbone, "activation_checkpointing_enable", model.backbone.gradient_checkpointing_enable)()
    state = folder / "training"
    if level_steps:
        in_words = spec.model_copy(update={"adapters": {}, "answers": "" if recipe.answers else None, "heads": _bare(spec)})
        learning = {f"projector.{name}": tensor for name, tensor in model.projector.named_parameters()}
        loop = _Loop(recipe, model, in_words, accelerator, words=True)
        for done in loop.run(state / "levels", train, learning, level_steps):
            report(done)
    for name, adapter in spec.adapters.items():
        torch.manual_seed(recipe.seed)
        add_adapter(model.backbone, name, parts=adapter.parts, rank=adapter.rank, alpha=adapter.alpha)
    model.backbone.to(device)
    learning = {name: tensor for name, tensor in trained_tensors(model, spec).items() if not name.startswith("projector.")}
    best = read_spec(folder).trained.get("validation_mean", -2.0) if (folder / SPEC).exists() else -2.0
    looks = {round(steps * (index + 1) / recipe.evaluations) for index in range(recipe.evaluations)}
    loop = _Loop(recipe, model, spec, accelerator, words=False)
    for done in loop.run(state / "scores", train, learning, steps):
        report(level_steps + done)
        if done not in looks:
            continue
        if accelerator.is_main_process:
            found = agreement(model, spec, validation, batch_size=recipe.batch_size)
            if found.mean_of(spec) > best:
                best = found.mean_of(spec)
                how = {"step": done, "steps": steps, "validation": found._asdict(), "validation_mean": best}
                save_judge(folder, model, spec.model_copy(update={"trained": spec.trained | how}))
        accelerator.wait_for_everyone()
    return read_spec(folder)


def split(rows: Sequence[JudgedPicture], recipe: JudgeRecipe, *, test: bool = True) -> Split:
    """Rows to learn from, to choose the best epoch by, and to test on; no prompt is in two of them, nor learnt beside another.

    Args:
        rows: All of them.
        recipe: Its fold is the test set, and `validation` the share of the other prompts that choose.
        test: Whether a fold is held out at all.

    Raises:
        BadInput: There are too few prompts.
    """
    fold = folds_by_prompt(rows, recipe.folds, seed=recipe.seed)[recipe.fold].tolist() if test else []
    held = set(fold)
    left = [row for index, row in enumerate(rows) if index not in held]
    parts = max(2, round(1 / recipe.validation))
    if (known := len({row.prompt or index for index, row in enumerate(left)})) < parts:
        raise BadInput(
            f"{known} prompts are left to learn from, too few to keep {recipe.validation:g} of them for choosing the best epoch.",
            hint=f"Rate pictures of more prompts, or raise `validation` to {1 / max(2, known):.2g} or more.",
        )
    chosen = set(folds_by_prompt(left, parts, seed=recipe.seed)[0].tolist())
    validation, tested = [row for index, row in enumerate(left) if index in chosen], [rows[index] for index in fold]
    kept = {row.prompt for row in [*validation, *tested]}
    learnt = [row for index, row in enumerate(left) if index not in chosen]
    return Split([row.without_prompts(kept) for row in learnt], validation, tested)


def predict(model: JudgeModel, spec: JudgeSpec, rows: Sequence[JudgedPicture], *, batch_size: int = 16) -> list[dict[Any, float]]:
    """What the judge says of each picture; see `scoring.score_batch`."""
    said: list[dict[Any, float]] = []
    training = model.training
    model.eval()
    for chosen, images in _opened(
        rows, [list(range(start, min(start + batch_size, len(rows)))) for start in range(0, len(rows), batch_size)]
    ):
        said += score_batch(model, spec, images, [row.prompt for row in chosen], [list(row.answers) for row in chosen])
    model.train(training)
    return said


def agreement(model: JudgeModel, spec: JudgeSpec, rows: Sequence[JudgedPicture], *, batch_size: int = 16) -> Agreement:
    """The judge against people on some pictures."""
    return agreement_of(predict(model, spec, rows, batch_size=batch_size), rows)


def judge_saved(folder: Path, rows: Sequence[JudgedPicture], *, batch_size: int = 16) -> list[dict[Any, float]]:
    """What a saved judge says of pictures; see `predict`."""
    model, spec = load_judge(folder, device=pick_device("auto"))
    return predict(model, spec, rows, batch_size=batch_size)


def agreement_of(said: Sequence[dict[Any, float]], rows: Sequence[JudgedPicture]) -> Agreement:
    """Predictions against people's opinions of the same pictures."""
    values: list[float | None] = []
    for dimension in ("perception", "correspondence"):
        pairs = [(own[dimension], getattr(row, dimension)) for own, row in zip(said, rows, strict=True) if dimension in own]
        known = np.array([pair for pair in pairs if pair[1] is not None], dtype=float).reshape(-1, 2)
        values.append(or_none(srcc, known[:, 0], known[:, 1]))
    right = [
        bool(np.isfinite(own[number])) and (own[number] > 0.5) == answer  # no answer is not people's
        for own, row in zip(said, rows, strict=True)
        for number, answer in enumerate(row.answers.values())
        if number in own
    ]
    return Agreement(*values, float(np.mean(right)) if right else None)


class _Loop:
    """One step of the training: which adapters learn what, and how losses are summed."""

    def __init__(self, recipe: JudgeRecipe, model: JudgeModel, spec: JudgeSpec, accelerator: Accelerator, *, words: bool) -> None:
        self.recipe, self.spec, self.accelerator, self.words = recipe, spec, accelerator, words
        self.losses = _Losses(model, spec, recipe, words=words)

    def run(self, folder: Path, rows: Sequence[JudgedPicture], learning: dict[str, nn.Parameter], steps: int) -> Iterator[int]:
        """Train `steps` steps, yielding how many are done."""
        model, accelerator = self.losses.model, self.accelerator
        model.requires_grad_(False)
        for tensor in learning.values():
            tensor.requires_grad_(True)
        optimizer = torch.optim.AdamW(list(learning.values()), lr=self.recipe.lr, weight_decay=0.0)
        loop = training_steps(
            folder,
            steps,
            optimizer,
            peak=self.recipe.lr,
            modules={"trained": Trained(learning)},
            writes=accelerator.is_main_process,
            log_every=10,
        )
        rank, world = accelerator.process_index, accelerator.num_processes
        for step, log in loop:
            batch = _batch(len(rows), self.recipe.batch_size, self.recipe.seed, step)
            own = batch[rank::world]
            pieces = [piece.tolist() for piece in np.array_split(own, min(self.recipe.accumulate, len(own)))] if len(own) else []
            optimizer.zero_grad(set_to_none=True)
            model.train()
            whole = {adapter: self.losses.counts(adapter, [rows[index] for index in batch]) for adapter in by_adapter(self.spec)}
            for chosen, images in _opened(rows, pieces):
                for adapter in by_adapter(self.spec):
                    with accelerator.autocast():
                        found = self.losses(adapter, chosen, images)
                    own = self.losses.counts(adapter, chosen)  # so that pieces add up to the mean over the batch, whatever is missing
                    parts = {name: value * (own[name] / whole[adapter][name]) for name, value in found.items()}
                    total = sum(parts.values())
                    if isinstance(total, Tensor) and total.requires_grad:  # nothing may be known of these pictures
                        total.backward()
                    for name, value in parts.items():
                        log[name] = log.get(name, 0.0) + float(value.detach())
            _sum_gradients(learning.values(), world)
            norm = nn.utils.clip_grad_norm_(list(learning.values()), 1.0)
            if not torch.isfinite(norm):
                raise BadInput(
                    f"The gradient of step {step + 1} is not finite: the training has run away.",
                    hint="Lower `lr` and choose another `out`, or delete that folder.",
                )
            optimizer.step()
            yield step + 1


def _accelerator(recipe: JudgeRecipe) -> Accelerator:
    """Devices and number types; another training in this process may have had others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=4))  # one process evaluates while the others wait
    cuda = torch.cuda.is_available()
    precision = pick_precision(recipe.precision, torch.device("cuda" if cuda else "cpu"))
    return Accelerator(mixed_precision=precision, cpu=not cuda, kwargs_handlers=[patience])


def _sum_gradients(tensors: Iterable[nn.Parameter], world: int) -> None:
    """Over all processes. Few tensors learn, so they are simply added up; each process may have seen other kinds of questions."""
    if world == 1:
        return
    for tensor in tensors:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
        torch.distributed.all_reduce(tensor.grad)


class _Losses:
    """A batch's losses under one adapter."""

    def __init__(self, model: JudgeModel, spec: JudgeSpec, recipe: JudgeRecipe, *, words: bool) -> None:
        self.model, self.spec, self.recipe, self.words = model, spec, recipe, words

    def __call__(self, adapter: str, rows: Sequence[JudgedPicture], images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Losses by name; empty where nothing is known of these pictures."""
        tasks = by_adapter(self.spec)[adapter]
        asked = [self._questions(row, tasks) for row in rows]
        kept = [index for index, own in enumerate(asked) if own]
        if not kept:
            return {}
        choose_adapter(self.model, adapter, learning=not self.words)
        look = self.model.look([images[i] for i in kept], [[question for _, question, _ in asked[i]] for i in kept])
        found: dict[str, Tensor] = {}
        if len(look.packed.answers):
            wanted, branch_of = look.packed.answers.to(look.spoken.device), look.packed.branch_of.to(look.spoken.device)
            by_token = F.cross_entropy(look.spoken.float(), wanted, reduction="none")
            counts = torch.bincount(branch_of)[branch_of]
            by_branch = (by_token / counts).sum() / len(branch_of.unique())  # a long answer weighs like a short one
            found["words"] = by_branch * (1.0 if self.words else self.recipe.answer_weight)
        for dimension, head in self.spec.heads.items():
            flat = [value for i in kept for name, _, value in asked[i] if name == dimension]
            here = [index for index, (name, _, _) in enumerate(one for i in kept for one in asked[i]) if name == dimension]
            if self.words or not here:
                continue
            target = torch.tensor(flat, device=look.hidden.device)
            found[dimension] = (self.model.heads[dimension](look.hidden[here]) - target).abs().mean() / head.spread
        return found

    def counts(self, adapter: str, rows: Sequence[JudgedPicture]) -> Counter[str]:
        """How many items each loss is the mean of."""
        found: Counter[str] = Counter()
        for row in rows:
            for name, asked, _ in self._questions(row, by_adapter(self.spec)[adapter]):
                found["words"] += bool(asked.answer)
                found[name] += not self.words and name in self.spec.heads
        return found

    def _questions(self, row: JudgedPicture, tasks: Sequence[str]) -> list[tuple[str, Question, float]]:
        """What is known of a picture as (task, question, score)."""
        rated: list[tuple[Dimension, dict[str, str], float | None]] = [("perception", {}, row.perception)]
        prompts = row.other_prompts | ({row.prompt: row.correspondence} if row.prompt and row.correspondence is not None else {})
        rated += [("correspondence", {"prompt": prompt}, score) for prompt, score in prompts.items()]
        asked: list[tuple[str, Question, float]] = []
        for dimension, values, score in rated:
            if dimension not in tasks or score is None:
                continue
            head = self.spec.heads[dimension]
            answer = level_of(score, head.low, head.high) if self.words else ""
            asked.append((dimension, question(self.spec, PROMPT_OF[dimension], **values)._replace(answer=answer), score))
        if "answers" in tasks:
            for text, said in row.answers.items():
                words = question(self.spec, PROMPT_OF["answers"], question=text)
                asked.append(("answers", words._replace(answer=YES if said else NO), 0.0))
        return asked


def _batch(count: int, size: int, seed: int, step: int) -> ndarray:
    """The rows of a step: every epoch goes through all rows in an order of its own."""
    per_epoch = math.ceil(count / size)
    order = np.random.default_rng([seed, step // per_epoch]).permutation(count)
    return order[(step % per_epoch) * size : (step % per_epoch + 1) * size]


def _opened(rows: Sequence[JudgedPicture], groups: Sequence[list[int]]) -> Iterator[tuple[list[JudgedPicture], list[Image.Image]]]:
    """Rows with their pictures, group by group, the next group being decoded while one is worked on."""
    with Pool(4) as pool:
        waiting = [[pool.submit(rows[index].open) for index in group] for group in groups[:1]]
        for number, group in enumerate(groups):
            if number + 1 < len(groups):
                waiting.append([pool.submit(rows[index].open) for index in groups[number + 1]])
            yield [rows[index] for index in group], [future.result() for future in waiting.pop(0)]


def _describe(recipe: JudgeRecipe, rows: Sequence[JudgedPicture], model: JudgeModel, folder: Path, *, precision: str) -> JudgeSpec:
    """The judge that a recipe makes from these pictures.

    Raises:
        BadInput: Nothing is known of a dimension, or all its scores are equal.
    """
    adapter = AdapterSpec(parts=recipe.parts, rank=recipe.rank, alpha=recipe.alpha) if recipe.parts else None
    heads: dict[Dimension, HeadSpec] = {}
    for dimension in recipe.dimensions:
        rated = [row for row in rows if dimension == "perception" or row.prompt]  # how well it shows nothing cannot be learnt
        own = [value for row in rated if (value := getattr(row, dimension)) is not None]
        others = [value for row in rows for value in row.other_prompts.values()] if dimension == "correspondence" else []
        known = np.array(own + others)
        if len(known) < 2 or np.ptp(known) == 0:
            raise BadInput(f"There are not two different scores of {dimension} to learn from.", hint="Leave it out of `dimensions`.")
        name = "" if adapter is None else "shared" if recipe.adapters == "shared" else dimension
        ends = {"low": float(known.min()), "high": float(known.max())}
        heads[dimension] = HeadSpec(adapter=name, widths=recipe.head, center=float(known.mean()), spread=float(known.std()), **ends)
    answers = recipe.answers and any(row.answers for row in rows)
    if not heads and not answers:
        raise BadInput("There is nothing to learn: no dimension and no answers.", hint="Name `dimensions`, or give pictures with answers.")
    answering = "" if adapter is None else "shared" if recipe.adapters == "shared" else "answers"
    names = dict.fromkeys([head.adapter for head in heads.values()] + ([answering] if answers else []))
    tasks = [*heads, *(["answers"] if answers else [])]
    return JudgeSpec(
        name=recipe.name or recipe.out.resolve().name,
        backbone=seen_from(folder, recipe.backbone),
        revision=recipe.revision,
        fingerprint=model.fingerprint,
        brief=recipe.brief,
        adapters={name: adapter for name in names if adapter is not None},
        projector=recipe.levels,
        resize=recipe.resize,
        heads=heads,
        answers=answering if answers else None,
        prompts={PROMPT_OF[task]: load_prompt(PROMPT_OF[task]).hash for task in tasks},
        trained={
            "recipe": recipe.model_dump(mode="json"),
            "pictures": len(rows),
            "torch": torch.__version__,
            "precision": precision,
            "levels": list(LEVELS),
        },
    )


def _bare(spec: JudgeSpec) -> dict[Dimension, HeadSpec]:
    return {dimension: head.model_copy(update={"adapter": ""}) for dimension, head in spec.heads.items()}


def check_same(folder: Path, recipe: JudgeRecipe, rows: Sequence[JudgedPicture], *, backbone: str | None = None) -> None:
    """Remember recipe, pictures and backbone beside the training, and refuse to go on with others.

    Args:
        folder: Of the training.
        recipe: How it is done.
        rows: To learn from and to choose by.
        backbone: Its fingerprint; without one nothing is remembered, and any backbone is taken for the same.

    Raises:
        BadInput: The folder holds another training.
    """
    path, values = folder / "recipe.json", recipe.model_dump(mode="json", exclude={"out", "data", "images", "backbone"})
    values |= {"pictures": content_hash(rows), "files": _files_hash(rows)}
    kept = read_kept(path)
    if not path.exists() and (folder / SPEC).exists():
        raise BadInput(f"{folder} holds a judge that was not trained there.", hint="Choose another `out`.")
    now = values | ({"backbone": backbone} if backbone else {})
    if any(name in kept and kept[name] != value for name, value in now.items()):  # an older version kept less
        raise BadInput(
            f"{folder} holds a training of another recipe, other pictures or another backbone.",
            hint="Choose another `out`, or delete that folder.",
        )
    if backbone is None:
        return
    values["backbone"] = backbone
    write_whole(path, json.dumps(values, indent=1))


def _files_hash(rows: Sequence[JudgedPicture]) -> str:
    """Hash of the pictures' files, quickly: their sizes and some bytes of the beginning, the middle and the end."""
    digest = hashlib.sha256()
    for row in rows:
        try:
            if isinstance(row.image, Path):
                with row.image.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    digest.update(f"{size} ".encode())
                    for place in (0, size // 2, max(0, size - 4096)):
                        file.seek(place)
                        digest.update(file.read(4096))
        except OSError:
            digest.update(b"missing")  # told when it is opened
    return digest.hexdigest()[:16]


def content_hash(rows: Sequence[JudgedPicture]) -> str:
    """Hash of judged pictures: their names and all opinions, in order."""
    digest = hashlib.sha256()
    for row in rows:
        name = row.image.name if isinstance(row.image, Path) else hashlib.sha256(row.image.tobytes()).hexdigest()
        told = [name, row.prompt, row.perception, row.correspondence, row.answers, *([row.other_prompts] if row.other_prompts else [])]
        digest.update(repr(told).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
