"""Learned preference through CLIP checkpoints that were trained on people's choices: PickScore, HPSv2 and their kin."""

from collections.abc import Sequence
from typing import Literal, final

from PIL import Image

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.records.verdict import Score, Unscored, as_score


@final
class ClipScorer:
    """Scores picture and prompt by the cosine of their features.

    Args:
        model: Local folder or hub id, in transformers format.
        scale: "logit" multiplies with the checkpoint's own logit scale, as PickScore does; "cosine" does not.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures or texts in one pass.
        revision: Commit or tag of the hub repository.
    """

    def __init__(
        self,
        model: str,
        *,
        scale: Literal["logit", "cosine"] = "logit",
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
        revision: str | None = None,
    ) -> None:
        self._encoder = ClipEncoder(model, device=device, dtype=dtype, batch_size=batch_size, revision=revision)
        self._factor = self._encoder.logit_scale if scale == "logit" else 1.0
        self.name = f"{self._encoder.name}, {scale}"

    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """Scale times cosine of each picture and its prompt; see `ports.Scorer`."""
        pictures, texts = self._encoder.encode(images), self._encoder.encode_text([prompt or "" for prompt in prompts])
        values = self._factor * (pictures * texts).sum(axis=1)
        return [as_score(value) for value in values]
