"""Detectors through transformers: of things that they know (DETR's kin, Mask2Former), or of any words (OWL, Grounding DINO)."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    Mask2FormerForUniversalSegmentation,
)

from vernissage.errors import BadInput, DriverError, OutOfMemory, VernissageError
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import load_pretrained
from vernissage.ports import Detection, Thresholds

_FAILURES = (RuntimeError, ValueError, TypeError, LookupError)
_MOST_MASKS = 100
"""Of a picture, as Mask2Former's authors take them."""
_WORDS = 40
"""Things that Grounding DINO is asked for at once; its text is short."""
_BY_WORDS = ("owlvit", "owlv2", "grounding-dino", "mm-grounding-dino")


@final
class TransformersDetector:
    """Finds things with a detection checkpoint in transformers format.

    Args:
        model: Local folder or hub id, such as facebook/mask2former-swin-small-coco-instance (GenEval's), PekingU/rtdetr_r50vd,
            google/owlv2-base-patch16-ensemble or IDEA-Research/grounding-dino-base.
        threshold: From what confidence on a thing of GenEval's counts.
        counting_threshold: Likewise where it is counted.
        relation_threshold: Likewise in a relation of T2I-CompBench's.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures of one size in one pass.
        revision: Commit or tag of the hub repository.

    Raises:
        BadInput: A threshold is not between 0 and 1.
        DriverError: There is no such checkpoint.
    """

    def __init__(
        self,
        model: str,
        *,
        threshold: float = Thresholds().presence,
        counting_threshold: float = Thresholds().counting,
        relation_threshold: float = Thresholds().relation,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 8,
        revision: str | None = None,
    ) -> None:
        self.name = f"detector:{model}"
        self.thresholds = Thresholds(threshold, counting_threshold, relation_threshold)
        if not all(0 <= each <= 1 for each in self.thresholds):
            raise BadInput("A detector's threshold is not between 0 and 1.", hint="Published ones are 0.3, 0.9 and 0.5.")
        self._batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        config = load_pretrained(AutoConfig, model, revision=revision)
        self._words, self._masks = config.model_type in _BY_WORDS, config.model_type == "mask2former"
        if not (self._words or self._masks or type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING):
            raise DriverError(f"{model} is a {config.model_type}, which is no detector that is read: DETR's kin, mask2former, {_BY_WORDS}.")
        kind = AutoModelForZeroShotObjectDetection if self._words else AutoModelForObjectDetection
        kind = Mask2FormerForUniversalSegmentation if self._masks else kind
        self._model = settle(load_pretrained(kind, model, dtype=self._dtype, use_safetensors=True, revision=revision), self._device)
        self._processor = load_pretrained(AutoProcessor if self._words else AutoImageProcessor, model, revision=revision)
        self._labels: dict[int, str] = {} if self._words else dict(config.id2label)
        self.known = None if self._words else frozenset(self._labels.values())

    def detect(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> list[list[Detection] | VernissageError]:
        """What is in each picture, surest first; see `ports.Detector`."""
        found: dict[int, list[Detection] | VernissageError] = {}
        for rows in self._alike(images, names):
            try:
                with self._explained():
                    several = self._detect([images[row] for row in rows], list(names[rows[0]]))
                found |= {row: sorted(each, key=lambda thing: -thing.confidence) for row, each in zip(rows, several, strict=True)}
            except VernissageError as error:
                found |= {row: self.detect([images[row]], [names[row]])[0] if len(rows) > 1 else error for row in rows}
        return [found[row] for row in range(len(images))]

    def _alike(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """Pictures in batches of one size, so that none is padded and sees the others; of one list of words where words are looked for."""
        by_kind: dict[object, list[int]] = {}
        for row, (image, own) in enumerate(zip(images, names, strict=True)):
            by_kind.setdefault((image.size, tuple(own) if self._words else ()), []).append(row)
        for rows in by_kind.values():
            for start in range(0, len(rows), self._batch_size):
                yield rows[start : start + self._batch_size]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"{self._device} is too small for {self.name}.", hint="Lower the detector's batch_size.") from error
        except _FAILURES as error:
            raise DriverError(f"{self.name} could not look: {error}") from error

    @torch.inference_mode()
    def _detect(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        if self._words:
            return self._detect_words(images, names)
        inputs = self._processor(images=list(images), return_tensors="pt")
        masked = "pixel_mask" in inputs and "pixel_mask" in inspect.signature(self._model.forward).parameters
        given = {"pixel_mask": inputs.pixel_mask.to(self._device)} if masked else {}
        outputs = self._model(pixel_values=inputs.pixel_values.to(self._device, self._dtype), **given)
        if self._masks:
            shape, inside = inputs.pixel_values.shape[-2:], _inside(inputs)
            given = zip(outputs.class_queries_logits, outputs.masks_queries_logits, images, strict=True)
            return [self._masked(classes.float(), masks.float(), (*shape, *inside), image.size) for classes, masks, image in given]
        sizes = [image.size[::-1] for image in images]
        least = min(self.thresholds)
        several = self._processor.post_process_object_detection(_in_float(outputs), threshold=least, target_sizes=sizes)
        return [
            [Detection(self._labels[label], _box(box), score) for box, score, label in _rows(each) if label in self._labels]
            for each in several
        ]

    def _masked(self, classes: Tensor, masks: Tensor, sides: tuple[int, int, int, int], size: tuple[int, int]) -> list[Detection]:
        """Instances of one picture as Mask2Former's authors take them: the surest pairs of query and class, by how clear their masks are.

        Args:
            classes: Logits, shape (query, class + 1), the last for nothing.
            masks: Logits, shape (query, height, width), of the padded picture at a lower resolution.
            sides: Height and width of the padded picture, and of what of it is the picture.
            size: Width and height that the picture had.
        """
        chances = classes.softmax(dim=-1)[:, :-1]
        top = chances.flatten().topk(min(_MOST_MASKS, chances.numel()))
        kept = top.values > min(self.thresholds)  # a mask is never clearer than 1, so what falls here falls in any case
        found = []
        for chance, index in zip(top.values[kept].tolist(), top.indices[kept].tolist(), strict=True):
            query, label = divmod(index, chances.shape[1])
            whole = interpolate(masks[None, query : query + 1], size=sides[:2], mode="bilinear", align_corners=False)
            cut = whole[..., : sides[2], : sides[3]]
            mask = interpolate(cut, size=size[::-1], mode="bilinear", align_corners=False)[0, 0]
            own = mask > 0
            clear = float(mask.sigmoid()[own].mean()) if own.any() else 0.0
            if label in self._labels and chance * clear > min(self.thresholds):
                (top_row, bottom), (left, right) = (_extent(own.any(dim=1)), _extent(own.any(dim=0)))
                own_pixels = own[top_row:bottom, left:right].cpu().numpy()
                found.append(Detection(self._labels[label], (left, top_row, right, bottom), chance * clear, own_pixels))
        return found

    def _detect_words(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        if not names:
            return [[] for _ in images]
        if "owl" in self._model.config.model_type:
            return self._detect_owl(images, names)
        found: list[list[Detection]] = [[] for _ in images]
        for start in range(0, len(names), _WORDS):
            for own, several in zip(found, self._detect_grounded(images, names[start : start + _WORDS]), strict=True):
                own += several
        return found

    def _detect_owl(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        texts = [[f"a photo of a {name}" for name in names]] * len(images)
        inputs = self._processor(text=texts, images=list(images), return_tensors="pt", truncation=True).to(self._device)
        outputs = self._model(**(inputs | {"pixel_values": inputs["pixel_values"].to(self._dtype)}))
        sizes = [image.size[::-1] for image in images]
        least = min(self.thresholds)
        several = self._processor.image_processor.post_process_object_detection(_in_float(outputs), threshold=least, target_sizes=sizes)
        return [[Detection(names[label], _box(box), score) for box, score, label in _rows(each)] for each in several]

    def _detect_grounded(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        """Boxes with the words that fit them best: a box is as sure of a name as of its surest token, as transformers counts it."""
        spans, text = [], ""
        for name in names:
            spans.append((len(text), len(text) + len(name)))
            text += f"{name.lower()}. "
        inputs = self._processor(text=[text.strip()] * len(images), images=list(images), return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0].tolist()
        inputs = inputs.to(self._device)
        outputs = self._model(**(inputs | {"pixel_values": inputs["pixel_values"].to(self._dtype)}))
        tokens = [[place for place, (left, right) in enumerate(offsets) if start <= left < right <= end] for start, end in spans]
        if lost := [name for name, own in zip(names, tokens, strict=True) if not own]:
            raise DriverError(f"{self.name} cannot read {lost[0]!r}.")
        found = []
        for logits, boxes, image in zip(outputs.logits.float(), outputs.pred_boxes.float(), images, strict=True):
            chances = torch.stack([logits.sigmoid()[:, own].amax(dim=1) for own in tokens], dim=1)
            best = chances.max(dim=1)
            width, height = image.size
            whole = boxes * torch.tensor([width, height, width, height], device=boxes.device)
            x, y, wide, high = whole.unbind(dim=1)
            corners = torch.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], dim=1)
            kept = best.values > min(self.thresholds)
            rows = zip(corners[kept].tolist(), best.values[kept].tolist(), best.indices[kept].tolist(), strict=True)
            found.append([Detection(names[label], _box(box), score) for box, score, label in rows])
        return found


def _in_float(outputs: Any) -> Any:
    """What scores and boxes are made of, in float32, whatever the model computes in."""
    outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
    return outputs


def _rows(found: dict[str, Tensor]) -> Iterator[tuple[list[float], float, int]]:
    return zip(found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True)


def _box(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left, top, right, bottom


def _inside(inputs: Any) -> tuple[int, int]:
    """Height and width of what is no padding; the same for all of a batch."""
    if "pixel_mask" not in inputs:
        return tuple(inputs.pixel_values.shape[-2:])
    mask = inputs.pixel_mask[0].bool()
    return int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())


def _extent(flags: Tensor) -> tuple[int, int]:
    """From the first that is true to behind the last."""
    (places,) = torch.nonzero(flags, as_tuple=True)
    return int(places[0]), int(places[-1]) + 1
