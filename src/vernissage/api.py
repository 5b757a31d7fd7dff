"""The front door for programs: a studio, and one function per road.

A studio holds what is loaded, so that the second picture is faster than the first. `paint` uses the embedded mini
studio; `Studio.from_toml` makes one of real models, with the same calls.
"""

import hashlib
import json
import operator
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, SupportsIndex

from PIL import Image
from pydantic import ValidationError

from vernissage.errors import BadInput, BadPlan, UnknownName, VernissageError
from vernissage.judging.zero_shot import ZeroShotJudge
from vernissage.metrics.distribution import Statistics
from vernissage.painting.mllm_planner import MLLMPlanner
from vernissage.painting.planner_spec import CARDS
from vernissage.painting.rewriting import RewritingPlanner
from vernissage.painting.road import Overrides, check_overrides, listen, override, overrides_of, paint_plans, seeded
from vernissage.ports import (
    MLLM,
    T2I,
    Detector,
    Given,
    ImageEncoder,
    Judge,
    Planner,
    Progress,
    Scorer,
    Tagger,
    TextEncoder,
    TextImageEncoder,
)
from vernissage.prompts import load_prompt, prompt_ids
from vernissage.records.chat import Chat, Turn
from vernissage.records.picture import ImageLike, Picture, carried_prompt, listed, opened_picture, several, to_image
from vernissage.records.plan import Arguments, Plan, whole_characters
from vernissage.records.verdict import Verdict
from vernissage.repainting.lockstep import Ports, Reporting
from vernissage.repainting.loop import Repainted, Settings, Watch, repaint_all
from vernissage.repainting.select import RATINGS
from vernissage.scoring.layouts import Entry, find_entries, with_prompts, with_questions
from vernissage.scoring.registry import ENCODERS, METRICS, find_metrics
from vernissage.scoring.score import Scored, Sources, gather_entries, score_entries
from vernissage.scoring.texts import ScoredTexts, check_pairs, score_texts
from vernissage.wiring import StudioConfig, identity_of, load_config, load_driver, planner_config
from vernissage.zoo.card import explain
from vernissage.zoo.catalogue import Catalogue, home, load_cards, load_catalogue

_JUDGED_AT_ONCE = 32


class Studio:
    """Models and drivers that work together. Each is loaded when it is first needed."""

    def __init__(self, config: StudioConfig | None = None) -> None:
        self.config = config or StudioConfig()
        self._scorers: dict[str, Scorer] = {}

    @classmethod
    def from_toml(cls, path: str | Path) -> "Studio":
        """The studio that a `vernissage.toml` describes.

        Raises:
            BadCard: The file has a mistake in it.
        """
        return cls(load_config(Path(path)))

    @property
    def is_mini(self) -> bool:
        """Whether every selectable model is a mini model or uses mini weights, so that it knows only the mini world."""
        return all(card.id.startswith("mini/") or (card.source.base or "").startswith("mini/") for card in self.catalogue.values())

    @cached_property
    def all_models(self) -> Catalogue:
        """Every model there is a card of; a trained planner brings cards along."""
        return load_catalogue([*self._planner_cards, *self.config.cards])

    @cached_property
    def catalogue(self) -> Catalogue:
        """The models the planner chooses from: those under `models`, if configured.

        Otherwise a trained planner's and the user's own. Without a trained planner the user's own and the embedded ones; these are left
        out where another MLLM is configured and the user has models.
        """
        if "models" in self.config.model_fields_set:
            return self.all_models.choose(self.config.models)
        folders = [*self._planner_cards, home() / "cards", *self.config.cards]
        names = [name for folder in folders if folder.is_dir() for name in load_cards(folder)]
        plans_mini = not self._planner_cards and str(self.config.mllm.options.get("model", "")).startswith("mini/")
        return self.all_models.choose([*(self.config.models if plans_mini or not names else ()), *names])

    @cached_property
    def _planner_cards(self) -> list[Path]:
        folder = self.config.planner_folder
        return [folder / CARDS] if folder is not None and (folder / CARDS).is_dir() else []

    @cached_property
    def mllm(self) -> MLLM:
        """Who plans, describes and compares."""
        return load_driver("mllm", self.config.mllm)

    @cached_property
    def planner(self) -> Planner:
        """Who makes plans of chats: a trained planner, or without one the MLLM."""
        return load_driver("planner", self.config.planner) if self.config.planner else MLLMPlanner(self.mllm)

    def planner_maker(self, name: str) -> Callable[[], Planner]:
        """A factory for the planner of that name: see `wiring.planner_config`, or "baseline".

        Raises:
            UnknownName: There is none of that name.
        """
        if name == "baseline":
            return lambda: RewritingPlanner(self.mllm)
        config = planner_config(name)
        return (lambda: load_driver("planner", config)) if config else lambda: MLLMPlanner(self.mllm)

    @cached_property
    def t2i(self) -> T2I:
        """Who paints."""
        return load_driver("t2i", self.config.t2i, catalogue=self.all_models)

    @cached_property
    def clip(self) -> TextImageEncoder | None:
        """Compares pictures with words."""
        return load_driver("encoder", self.config.clip) if self.config.clip else None

    @cached_property
    def dinov2(self) -> ImageEncoder | None:
        """Compares pictures with pictures."""
        return load_driver("encoder", self.config.dinov2) if self.config.dinov2 else None

    @cached_property
    def inception(self) -> ImageEncoder | None:
        """Encodes pictures for FID, KID and the Inception Score."""
        return load_driver("encoder", self.config.inception) if self.config.inception else None

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        """Compares words with words."""
        return load_driver("text_encoder", self.config.text_encoder) if self.config.text_encoder else None

    @cached_property
    def detector(self) -> Detector | None:
        """Finds things in pictures."""
        return load_driver("detector", self.config.detector) if self.config.detector else None

    @cached_property
    def tagger(self) -> Tagger | None:
        """Tells parts of speech."""
        return load_driver("tagger", self.config.tagger) if self.config.tagger else None

    def plan(
        self,
        request: str | Chat = "",
        *,
        images: ImageLike | Sequence[ImageLike] = (),
        history: Sequence[Turn] = (),
        **fixed: Any,
    ) -> Plan:
        """From a chat to a plan, without painting it.

        Args:
            request: What somebody typed, or a whole chat.
            images: Reference pictures.
            history: Earlier turns.
            fixed: What is fixed already, by name: prompt, negative_prompt, model, seed, steps, cfg_scale, width, height, sampler and so on.
                With prompt and model fixed, no language model is asked.

        Returns:
            A plan that its model can paint, with the runners-up and their probabilities where the planner tells them.

        Raises:
            UserError: The request, or something fixed, cannot be used.
            ReplyError: The planner answered unusably, twice.
        """
        overrides = overrides_of(fixed)
        check_overrides(overrides, self.all_models if overrides.model else self.catalogue)
        if not isinstance(request, str | Chat):
            raise BadInput(f"Something of the type {type(request).__name__} is no request.", hint="Give a text, or a Chat.")
        history = listed(history, "turns")
        if not all(isinstance(turn, Turn) for turn in history):
            raise BadInput("The history holds something that is no turn.", hint="Give a list of Turn.")
        pictures = [to_image(image) for image in [*_chat_images(request, history), *several(images)]]
        if overrides.prompt is not None and overrides.model is not None:
            return override(Plan(prompt=overrides.prompt, model=overrides.model), overrides, self.all_models)
        if overrides.prompt is not None and not isinstance(request, Chat) and not request.strip():
            request = overrides.prompt
        chat = listen(request, images=pictures, history=history)
        known = Given(prompt=overrides.prompt, model=overrides.model if overrides.model in self.catalogue.choosable else None)
        plan = _or_raise(self.planner.plan([chat], [pictures], self.catalogue, [known])[0])
        return override(plan, overrides, self.all_models)

    def paint(self, request: str | Chat = "", **options: Any) -> Picture:
        """Paint one picture; see `paint_several` for the options."""
        return _or_raise(self.paint_several(request, count=1, **options)[0])

    def paint_several(
        self,
        request: str | Chat = "",
        *,
        count: int = 1,
        images: ImageLike | Sequence[ImageLike] = (),
        history: Sequence[Turn] = (),
        progress: Progress | None = None,
        **fixed: Any,
    ) -> list[Picture | VernissageError]:
        """Paint several pictures of one plan that differ in their seed; in the place of one that failed stands why.

        Args:
            request: What somebody typed, or a whole chat.
            count: Number of pictures; their seeds are consecutive.
            images: Reference pictures.
            history: Earlier turns.
            progress: Called with (done, total) steps.
            fixed: What is fixed already, by name; see `plan`.

        Raises:
            VernissageError: See `plan`.
        """
        if not isinstance(count, SupportsIndex) or (count := operator.index(count)) < 1:
            raise BadInput(f"{count!r} pictures cannot be painted.", hint="Give a `count` of 1 or more.")
        plan = self.plan(request, images=images, history=history, **fixed)
        return self.paint_plan(plan, count=count, progress=progress, request=_last_words(request))

    def repaint(
        self,
        reference: ImageLike,
        *,
        model: str,
        arguments: Arguments | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
        **settings: Any,
    ) -> Repainted:
        """Let a T2I model paint a reference picture again; see `repaint_several` for the options.

        Args:
            reference: The picture, or the path of its file.
            model: Id of the model under test.
            arguments: How the model is run.
            progress: Called with (done, total) pictures.
            watch: Called with each tree and each round.
            settings: rounds, candidates, words, weights, rate, patience, seed; see `repainting.loop.Settings`.

        Raises:
            VernissageError: Nothing could be painted, or a setting cannot be used.
        """
        try:
            given = Settings(**settings)
        except ValidationError as error:
            raise BadInput(f"A setting has a mistake: {explain(error)}.", hint="See repainting.loop.Settings.") from error
        options: dict[str, Any] = {"arguments": arguments, "progress": progress, "watch": watch}
        return _or_raise(self.repaint_several([reference], model=model, settings=given, **options)[0])

    def repaint_several(
        self,
        references: Sequence[ImageLike],
        *,
        model: str,
        settings: Settings | None = None,
        arguments: Arguments | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> list[Repainted | VernissageError]:
        """Let a T2I model paint reference pictures again, in rounds, as ImageRepainter does.

        Args:
            references: Pictures; worked on together, so that questions and paintings are batched.
            model: Id of the model under test; any there is a card of.
            settings: Rounds, candidates and so on; see `repainting.loop.Settings`.
            arguments: How the model is run; its card's defaults where left out.
            progress: Called with (done, total) pictures; fewer than the total are painted where a round keeps one or the rounds end early.
            watch: Called with each tree and each round as they come.

        Returns:
            For each reference its regeneration with all pictures, or the error that ended it.

        Raises:
            UserError: The model or an argument cannot be used, or a picture cannot be read.
        """
        settings = self.check_repainting(settings or Settings())
        if not isinstance(model, str):
            raise BadInput(f"Something of the type {type(model).__name__} is no model.", hint="Give its id; see `vernissage zoo list`.")
        plan = override(Plan(prompt="x", model=model), Overrides(arguments=arguments or Arguments()), self.all_models)
        images = [to_image(reference) for reference in several(references)]
        t2i = Reporting(self.t2i, progress, len(images) * settings.rounds * settings.candidates) if progress else self.t2i
        ports = Ports(self.mllm, t2i, self.encoders, self.critic if settings.rater == "judge" else None, self.comparers)
        return repaint_all(images, plan, settings, ports, clip=self.clip, watch=watch)

    def check_repainting(self, settings: Settings) -> Settings:
        """The settings as this studio can follow them: weights left open go to the encoders it has, or to the MLLM's rating.

        Raises:
            UnknownName: A score that is weighed or asked for does not exist here.
            BadPlan: The reference is to be interrogated, and there is no CLIP.
        """
        if "weights" not in settings.model_fields_set:
            settings = settings.model_copy(update={"weights": dict.fromkeys(self.encoders or ["consistency"], 1.0)})
        for name in settings.weights:
            if name not in (known := [*self.encoders, *RATINGS, "ssim"]):
                raise UnknownName("score", name, known)
        for name in settings.rate:
            if name not in RATINGS:
                raise UnknownName("rating", name, RATINGS)
        if settings.words != "tree" and set(settings.weights) == {"facts"}:
            raise BadPlan("Facts are those of the tree, and there is none.", hint="Choose --words tree, or weigh something else as well.")
        if settings.words == "interrogate" and self.clip is None:
            raise BadPlan("Interrogating a picture needs CLIP.", hint="Configure `clip`, or choose --words tree or direct.")
        return settings

    def judge(self, picture: ImageLike, *, prompt: str | None = None, questions: Sequence[str] = ()) -> Verdict:
        """Say how good a picture looks and how well it shows what it should; see `judge_several`.

        Args:
            picture: The picture, or the path of its file.
            prompt: What it should show; left out, the prompt that the picture carries is taken.
            questions: Yes/no questions about it.
        """
        return self.judge_several([picture], prompts=() if prompt is None else (prompt,), questions=questions)[0]

    def judge_several(
        self,
        pictures: Sequence[ImageLike],
        *,
        prompts: Sequence[str | None] = (),
        questions: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """Say how good pictures look and how well they show what they should.

        Args:
            pictures: One or many.
            prompts: What each should show; left out, the prompts that the pictures carry are taken.
            questions: Yes/no questions asked about every picture.
            progress: Called with (done, total) pictures.

        Returns:
            A verdict on each; what could not be scored says why.

        Raises:
            BadInput: A picture cannot be read, or there are not as many prompts as pictures.
        """
        questions = (questions,) if isinstance(questions, str) else tuple(listed(questions, "questions"))
        if not all(isinstance(question, str) and question.strip() for question in questions):
            raise BadInput("A question is empty, or no text.", hint='Ask like "Is there a cat?".')
        prompts = prompts if isinstance(prompts, str) else listed(() if prompts is None else prompts, "prompts")
        if isinstance(prompts, str) or not all(isinstance(prompt, str | None) for prompt in prompts):
            raise BadInput("The prompts are no list of texts.", hint="Give one text, or None, a picture.")
        pictures = several(pictures)
        if prompts and len(prompts) != len(pictures):
            raise BadInput(f"There are {len(pictures)} pictures and {len(prompts)} prompts.", hint="Give one prompt a picture, or none.")
        prompts = [None if prompt is None else whole_characters(prompt) for prompt in prompts]
        verdicts: list[Verdict] = []
        for start in range(0, len(pictures), _JUDGED_AT_ONCE):
            part = list(pictures[start : start + _JUDGED_AT_ONCE])
            opened = [opened_picture(each) if isinstance(each, str | Path | Picture) else each for each in part]
            images = [to_image(each) for each in opened]
            carried = [None if isinstance(each, Image.Image) else carried_prompt(each.told) for each in opened]
            said = prompts[start : start + _JUDGED_AT_ONCE] if prompts else carried
            verdicts += self.critic.judge(images, said, [questions] * len(part))
            if progress:
                progress(len(verdicts), len(pictures))
        return verdicts

    @cached_property
    def critic(self) -> Judge:
        """Who judges: a trained judge, or without one the MLLM, asked with the five levels."""
        trained = self.config.trained_judge
        return load_driver("judge", trained) if trained else ZeroShotJudge(self.mllm)

    def score(
        self,
        source: str | Path | Sequence[Entry],
        metrics: str | Sequence[str] = "clipscore",
        *,
        reference: str | Path | Sequence[Entry] | None = None,
        prompts: str | Path | None = None,
        questions: str | Path | None = None,
        cache: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Scored:
        """Score pictures with many automatic metrics at once.

        Args:
            source: A folder or table of pictures, see `scoring.layouts.find_entries`, or its entries.
            metrics: Names, see `scoring.registry.METRICS`.
            reference: Folder of reference pictures, or their entries, or an .npz of statistics.
            prompts: A file of prompts; left out, those of the layout or those that the pictures carry.
            questions: A file of TIFA's or DSG's questions, see `scoring.questions.read_questions`; left out, those of the layout, or
                those that the MLLM writes.
            cache: Folder that keeps features and slow scores.
            progress: Called with (done, total) pictures.

        Raises:
            UserError: A metric is unknown or needs what is not there.
        """
        chosen = find_metrics((metrics,) if isinstance(metrics, str) else tuple(listed(metrics, "metrics")))
        entries = find_entries(Path(source)) if isinstance(source, str | Path) else listed(source, "entries")
        if not all(isinstance(entry, Entry) for entry in entries):
            raise BadInput("There is something to score that is no Entry.", hint="Give a folder or table, or a list of layouts.Entry.")
        entries = with_prompts(entries, Path(prompts)) if prompts else entries
        entries = with_questions(entries, Path(questions)) if questions else entries
        needs = {need for metric in chosen for need in metric.needs}
        sources = Sources(
            clip=self.clip if "clip" in needs else None,
            dinov2=self.dinov2 if "dinov2" in needs else None,
            inception=self.inception if "inception" in needs else None,
            mllm=self.mllm if "mllm" in needs else None,
            judge=self.critic if "judge" in needs else None,
            detector=self.detector if "detector" in needs else None,
            tagger=self.tagger if any(metric.reads_tags for metric in chosen) else None,
            scorers={metric.name: self.scorer(metric.name) for metric in chosen if metric.name in self.config.scorers},
            identities=self.identities if needs & {"mllm", "judge", "detector", "scorer"} else {},  # their files are read for it
        )
        return score_entries(
            entries,
            chosen,
            sources,
            reference=Path(reference) if isinstance(reference, str) and reference else reference or None,
            cache=Path(cache) if cache else None,
            progress=progress,
        )

    def score_texts(self, texts: Sequence[str], references: Sequence[str], *, progress: Progress | None = None) -> ScoredTexts:
        """How alike texts are to those that they should be like: BERTScore by this studio's `text_encoder`.

        Args:
            texts: Such as planned prompts.
            references: What each should be like.
            progress: Called with (done, total) pairs.

        Returns:
            Precision, recall and F of each pair, raw and rescaled; see `scoring.texts`.

        Raises:
            BadInput: There are not as many texts as references, or there is no text encoder.
        """
        pairs = check_pairs(texts, references)
        if self.text_encoder is None:
            raise BadInput("Comparing texts needs a text encoder.", hint="Configure `text_encoder`.")
        return score_texts(pairs, self.text_encoder, progress=progress)

    @cached_property
    def identities(self) -> dict[str, str]:
        """Cache identifiers of the MLLM, the judge, the detector, the tagger and each scorer."""
        said = {name: load_prompt(name).hash for name in prompt_ids() if name.startswith(("judging/", "scoring/"))}
        prompts = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
        trained = self.config.trained_judge
        mllm = f"{identity_of(self.config.mllm)} {prompts}"
        judge = f"{identity_of(trained)} {prompts}" if trained else f"{mllm} zero-shot"
        others = {"detector": self.config.detector, "tagger": self.config.tagger, **self.config.scorers}
        return {name: identity_of(config) for name, config in others.items() if config} | {"mllm": mllm, "judge": judge}

    def statistics(
        self, source: str | Path, encoder: str, *, cache: str | Path | None = None, progress: Progress | None = None
    ) -> tuple[Statistics, int]:
        """Statistics of a set of pictures, to be compared with by Frechet distances later; see `metrics.distribution.save_statistics`.

        Args:
            source: A folder or table of pictures, see `scoring.layouts.find_entries`.
            encoder: "clip", "dinov2" or "inception".
            cache: Folder that keeps features.
            progress: Called with (done, total) pictures.

        Returns:
            (statistics, pictures that could not be read or encoded)

        Raises:
            UserError: There is no such encoder here, or fewer than two pictures can be read.
        """
        if encoder not in ENCODERS:
            raise UnknownName("encoder", encoder, ENCODERS)
        chosen: ImageEncoder | None = getattr(self, encoder)
        if chosen is None:
            raise BadInput(f"There is no encoder `{encoder}`.", hint="Configure it in your vernissage.toml.")
        gathered = gather_entries(find_entries(Path(source)), chosen, cache=Path(cache) if cache else None, progress=progress)
        if gathered.statistics is None or gathered.statistics.n < 2:
            raise BadInput(f"Fewer than two pictures of {source} could be read.", hint="Statistics need at least two.")
        return gathered.statistics, gathered.missing

    def scorer(self, metric: str) -> Scorer:
        """The learned metric of that name, loaded once."""
        if metric not in self._scorers:
            self._scorers[metric] = load_driver("scorer", self.config.scorers[metric])
        return self._scorers[metric]

    @property
    def comparers(self) -> dict[str, Scorer]:
        """The learned metrics of this studio that need a reference picture and nothing else, such as LPIPS."""
        pairs = {name for name, metric in METRICS.items() if metric.needs == {"reference", "scorer"}}
        return {name: self.scorer(name) for name in self.config.scorers if name in pairs}

    @property
    def encoders(self) -> dict[str, ImageEncoder]:
        """The encoders that compare pictures with pictures, by the name of their score."""
        return {name: encoder for name, encoder in (("clip", self.clip), ("dinov2", self.dinov2)) if encoder is not None}

    def paint_plan(
        self, plan: Plan, *, count: int = 1, progress: Progress | None = None, request: str = ""
    ) -> list[Picture | VernissageError]:
        """Paint a plan `count` times, with consecutive seeds; in the place of a picture that failed stands why."""
        return paint_plans(seeded(plan, count), self.t2i, encoder=self.clip, request=request, progress=progress)


def paint(request: str = "", *, studio: Studio | None = None, **options: Any) -> Picture:
    """Paint what somebody asks for, with the embedded mini studio unless another is given.

    Args:
        request: Freestyle text.
        studio: Who paints; see `Studio.from_toml` for real models.
        options: images, history, progress, or what is fixed by name, such as model and seed; see `Studio.paint_several`.

    Example:
        picture = vs.paint("two yellow stars over the sea at night, neon please")
        picture.save("stars.png")
    """
    return (studio or mini_studio()).paint(request, **options)


def repaint(reference: ImageLike, *, model: str, studio: Studio | None = None, **options: Any) -> Repainted:
    """Let a T2I model paint a reference picture again, with the embedded mini studio unless another is given.

    Args:
        reference: The picture, or the path of its file.
        model: Id of the model under test.
        studio: Who understands, paints and compares.
        options: rounds, candidates, words, weights, rate, patience, seed, arguments, progress, watch; see `Studio.repaint`.

    Example:
        repainted = vs.repaint("reference.png", model="mini/neon", rounds=4)
        repainted.regeneration.best.scores["clip"]
    """
    return (studio or mini_studio()).repaint(reference, model=model, **options)


def judge(picture: ImageLike, *, prompt: str | None = None, questions: Sequence[str] = (), studio: Studio | None = None) -> Verdict:
    """Say how good a picture looks and how well it shows what it should, with the embedded mini studio unless another is given.

    Args:
        picture: The picture, or the path of its file.
        prompt: What it should show; left out, the prompt that the picture carries is taken.
        questions: Yes/no questions about it.
        studio: Who judges.

    Example:
        verdict = vs.judge("stars.png", questions=["Is there a star?"])
        verdict.perception, verdict.correspondence, verdict.answers[0].yes
    """
    return (studio or mini_studio()).judge(picture, prompt=prompt, questions=questions)


def score(
    source: str | Path | Sequence[Entry], metrics: str | Sequence[str] = "clipscore", *, studio: Studio | None = None, **options: Any
) -> Scored:
    """Score pictures with many metrics, with the embedded mini studio unless another is given.

    Args:
        source: A folder or table of pictures.
        metrics: Names; `vernissage score --list` shows them.
        studio: Whose encoders, MLLM and judge.
        options: reference, prompts, questions, cache, progress; see `Studio.score`.

    Example:
        scored = vs.score("pictures", ["clipscore", "judge-perception"])
        scored.pictures["clipscore"][0]
    """
    return (studio or mini_studio()).score(source, metrics, **options)


@cache
def mini_studio() -> Studio:
    """The embedded studio, loaded once."""
    return Studio()


def _or_raise(result: Any) -> Any:
    if isinstance(result, VernissageError):
        raise result
    return result


def _chat_images(request: str | Chat, history: Sequence[Turn]) -> tuple[Path, ...]:
    """The pictures of a chat's turns, oldest first."""
    turns = request.turns if isinstance(request, Chat) else history
    return tuple(image for turn in turns for image in turn.images)


def _last_words(request: str | Chat) -> str:
    return request.turns[-1].text if isinstance(request, Chat) else request
