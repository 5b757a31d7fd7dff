"""What the roads need from outside. A driver fills a port; `wiring` says which.

Ports speak in records and plain values. They know nothing of torch, HTTP or files on disk. A driver may be called from
several threads at once; one that cannot work so lets the calls wait for one another.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from numpy import ndarray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from vernissage.errors import VernissageError
from vernissage.records.chat import Chat
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.verdict import Score, Unscored, Verdict

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

Tagger = Callable[[Sequence[str]], list[list[tuple[str, str]]]]
"""The words and marks of each text with their parts of speech as Universal Dependencies names them: ("cat", "NOUN"), (",", "PUNCT"), …"""


class Message(BaseModel):
    """One message to a multimodal language model."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    role: Literal["system", "user", "assistant"] = "user"
    text: str
    images: tuple[Image.Image, ...] = ()


class Ask(BaseModel):
    """A question to a multimodal language model, and the shape the answer must have."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    messages: tuple[Message, ...]
    reply: type[BaseModel] | None = None
    """A pydantic model the reply is parsed into; None for free text."""
    max_tokens: int = 512
    temperature: float = 0.0
    """0 takes the most likely words."""
    seed: int = 0
    """Decides the words drawn where the temperature is above 0."""


class Reply(BaseModel):
    """The answer: its text, and the parsed record where one was asked for."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    text: str
    record: BaseModel | None = None
    seconds: float = 0.0
    cut: bool = False
    """Whether it ends where `max_tokens` were said, and not by itself."""


class MLLM(Protocol):
    """A multimodal language model."""

    name: str
    brief: bool
    """Whether it wants the short form of each prompt, as small models do."""

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order; a failed one becomes its error, the others are answered all the same."""
        ...

    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """For each question the probability of each option as its answer, shape (option,), summing to 1.

        What cannot be told is an error, `NoProbabilities` where the model never tells any; no number is made up.
        """
        ...


class Given(BaseModel):
    """What of a plan is fixed before anybody plans."""

    model_config = ConfigDict(frozen=True)

    prompt: str | None = None
    model: str | None = None


class Planner(Protocol):
    """Chats to plans."""

    name: str

    def plan(
        self, chats: Sequence[Chat], images: Sequence[Sequence[Image.Image]], catalogue: Any, given: Sequence[Given] = ()
    ) -> list[Plan | VernissageError]:
        """A plan for each chat, in order; one that cannot be planned becomes its error.

        Args:
            chats: The requests.
            images: The reference pictures of each.
            catalogue: A `zoo.catalogue.Catalogue` of the models to choose from.
            given: What of each is fixed already; nothing where left out.

        Returns:
            Plans that their models can paint, with the models considered where the planner can tell how likely each is.
        """
        ...


class T2I(Protocol):
    """A painter of pictures from plans."""

    def paint(self, plans: Sequence[Plan], *, progress: Progress | None = None) -> list[Picture | VernissageError]:
        """Paint each plan, in order; a failed one becomes its error.

        A picture depends on its plan and seed alone, not on the others of the batch.
        """
        ...


class ImageEncoder(Protocol):
    """Pictures to feature vectors."""

    name: str

    def encode(self, images: Sequence[Image.Image]) -> ndarray:
        """Features of shape (image, feature), float32, unit length."""
        ...

    def encode_raw(self, images: Sequence[Image.Image]) -> ndarray:
        """The same features with the length that they have."""
        ...


class TextImageEncoder(ImageEncoder, Protocol):
    """An encoder whose text and picture features can be compared."""

    def encode_text(self, texts: Sequence[str]) -> ndarray:
        """Features of shape (text, feature), float32, unit length, in the space of `encode`."""
        ...


class TextEncoder(Protocol):
    """Texts to features of their tokens, for BERTScore."""

    name: str
    baseline: tuple[float, float, float] | None
    """Precision, recall and F of unrelated texts as somebody published them for this encoder; None where nobody has."""

    def encode_tokens(self, texts: Sequence[str]) -> Sequence[tuple[ndarray, ndarray]]:
        """For each text, in order, its tokens' features, shape (token, width), float32, unit length, and which of them count."""
        ...


class Judge(Protocol):
    """Whoever says how good pictures are."""

    name: str

    def judge(self, images: Sequence[Image.Image], prompts: Sequence[str | None], questions: Sequence[Sequence[str]]) -> list[Verdict]:
        """A verdict on each picture.

        Args:
            images: The pictures.
            prompts: What each should show; None leaves its correspondence Unscored.
            questions: Yes/no questions about each, answered in order.

        Returns:
            One verdict a picture; what could not be scored says why.
        """
        ...


class Detection(NamedTuple):
    """A thing that was found in a picture."""

    name: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels."""
    confidence: float
    """In [0, 1]."""
    mask: ndarray | None = None
    """Which pixels of the box are its own, shape (bottom - top, right - left), bool; None where the detector tells boxes alone."""


class Thresholds(NamedTuple):
    """How confident a detector must be for a thing to count; as published for GenEval and T2I-CompBench."""

    presence: float = 0.3
    """GenEval's things, their colours and positions."""
    counting: float = 0.9
    """GenEval's numbers of things."""
    relation: float = 0.5
    """T2I-CompBench's relations."""


class Detector(Protocol):
    """Finds things in pictures."""

    name: str
    known: frozenset[str] | None
    """What it can find; None where it looks for whatever it is asked."""
    thresholds: Thresholds

    def detect(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> list[list[Detection] | VernissageError]:
        """What is in each picture, surest first, but for what no threshold would let count.

        Args:
            images: RGB.
            names: What to look for in each; a detector that knows what it can find tells all of that.

        Returns:
            One list a picture, in order, or the error that it met.
        """
        ...


class Scorer(Protocol):
    """A learned metric: one number a picture."""

    name: str

    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """A score of each picture, in order.

        Args:
            images: RGB.
            prompts: What each should show; there wherever the metric needs one.
            references: What each is compared with; there wherever the metric needs one.
        """
        ...
