"""Detectors through transformers: of things that they know (DETR's kin, Mask2Former), or of any words (OWL, Grounding DINO)."""

import inspect
from collections.abc import Iterator, Sequence
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

from vernissage.errors import BadInput, DriverError, VernissageError
from vernissage.local.device import explained, in_type, pick_device, pick_dtype, settle
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.ports import Detection, Thresholds

_MOST_MASKS = 100
"""Of a picture, as Mask2Former's authors take them."""
_THINNEST = 64
"""Times its width that a picture may be long; what is longer is scaled to nothing, or fills a square with padding."""
_BY_WORDS = ("owlvit", "owlv2", "grounding-dino", "mm-grounding-dino")
_KEEPING_SHAPE = {"shortest_edge": 800, "longest_edge": 1333}
"""How GenEval's Mask2Former sees pictures; some released ones are set to squares."""


@final
class TransformersDetector:
    """Finds things with a detection checkpoint in transformers format.

    Args:
        model: Local folder or hub id, such as facebook/mask2former-swin-small-coco-instance (of the architecture of GenEval's, which has
            other weights), PekingU/rtdetr_r50vd, google/owlv2-base-patch16-ensemble or IDEA-Research/grounding-dino-base.
        threshold: From what confidence on a thing of GenEval's counts.
        counting_threshold: Likewise where it is counted.
        relation_threshold: Likewise in a relation of T2I-CompBench's.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures of one size in one pass.
        revision: Commit or tag of the hub repository.

    Raises:
        BadInput: A threshold is not between 0 and 1.
        DriverError: There is no such checkpoint, or it needs a package that is not installed.
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
        self.thresholds = Thresholds(threshold, counting_threshold, relation_threshold)
        if not all(0 <= each <= 1 for each in self.thresholds):
            raise BadInput("A detector's threshold is not between 0 and 1.", hint="Published ones are 0.3, 0.9 and 0.5.")
        self._least = min(self.thresholds)
        self._batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        config = load_pretrained(AutoConfig, model, revision=revision)
        self._words, self._masks = config.model_type in _BY_WORDS, config.model_type == "mask2former"
        if not (self._words or self._masks or type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING):
            known = ", ".join(("DETR and its kin", "mask2former", *_BY_WORDS))
            raise DriverError(f"{model} is of the kind {config.model_type}, which is no detector that is read. Known: {known}.")
        kind = AutoModelForZeroShotObjectDetection if self._words else AutoModelForObjectDetection
        kind = Mask2FormerForUniversalSegmentation if self._masks else kind
        self._model = settle(load_pretrained(kind, model, dtype=self._dtype, use_safetensors=True, revision=revision), self._device)
        self._processor = load_pretrained(AutoProcessor if self._words else AutoImageProcessor, model, revision=revision)
        if self._masks and self._processor.size.get("height"):
            self._processor.size = _KEEPING_SHAPE
        self._labels: dict[int, str] = {} if self._words else dict(config.id2label)
        self.known = None if self._words else frozenset(self._labels.values())
        self.name = f"detector:{model} {fingerprint(self._model)}{in_type(self._dtype)}"

    def detect(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> list[list[Detection] | VernissageError]:
        """What is in each picture, surest first; see `ports.Detector`."""
        found: dict[int, list[Detection] | VernissageError] = {}
        for rows in self._alike(images, names):
            found |= self._try(rows, images, names)
        return [found[row] for row in range(len(images))]

    def _alike(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """Pictures in batches of one size, so that none is padded and sees the others.

        Grounding DINO reads all words together, so there they are also of one list of words.
        """
        by_kind: dict[object, list[int]] = {}
        for row, (image, own) in enumerate(zip(images, names, strict=True)):
            by_kind.setdefault((image.size, tuple(own) if self._reads_together else ()), []).append(row)
        for rows in by_kind.values():
            for start in range(0, len(rows), self._batch_size):
                yield rows[start : start + self._batch_size]

    @property
    def _reads_together(self) -> bool:
        return self._words and "owl" not in self._model.config.model_type

    def _try(
        self, rows: list[int], images: Sequence[Image.Image], names: Sequence[Sequence[str]]
    ) -> dict[int, list[Detection] | VernissageError]:
        """What is in some pictures; where a batch fails, each is tried alone."""
        failed: VernissageError
        try:
            with explained(self.name, self._device, "look"):
                several = self._detect([images[row] for row in rows], [list(names[row]) for row in rows])
            return {
                row: sorted(_inside(each, images[row].size), key=lambda thing: -thing.confidence)
                for row, each in zip(rows, several, strict=True)
            }
        except VernissageError as error:
            failed = error.with_traceback(None)
            failed.__cause__ = failed.__context__ = None  # they hold the failed batch's memory
        if len(rows) == 1:
            return {rows[0]: failed}
        return {row: found for each in rows for row, found in self._try([each], images, names).items()}

    @torch.inference_mode()
    def _detect(self, images: Sequence[Image.Image], names: Sequence[list[str]]) -> list[list[Detection]]:
        width, height = images[0].size
        if max(width, height) > _THINNEST * min(width, height):
            raise DriverError(f"a picture of {width} x {height} is too narrow to be looked at.")
        if self._words:
            return self._detect_grounded(images, names[0]) if self._reads_together else self._detect_owl(images, names)
        inputs = self._processor(images=list(images), return_tensors="pt")
        masked = "pixel_mask" in inputs and "pixel_mask" in inspect.signature(self._model.forward).parameters
        given = {"pixel_mask": inputs.pixel_mask.to(self._device)} if masked else {}
        outputs = self._model(pixel_values=inputs.pixel_values.to(self._device, self._dtype), **given)
        if self._masks:
            self._check(outputs.class_queries_logits, outputs.masks_queries_logits)
            sides = (*inputs.pixel_values.shape[-2:], *_unpadded(inputs))
            several = zip(outputs.class_queries_logits, outputs.masks_queries_logits, images, strict=True)
            return [self._masked(classes.float(), masks.float(), sides, image.size) for classes, masks, image in several]
        self._check(outputs.logits, outputs.pred_boxes)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        sizes = [image.size[::-1] for image in images]
        several = self._processor.post_process_object_detection(outputs, threshold=self._least, target_sizes=sizes)
        named = [[(self._labels.get(label), box, score) for box, score, label in _rows(each)] for each in several]
        return [[Detection(label, (*box,), score) for label, box, score in each if label is not None] for each in named]

    def _check(self, *numbers: Tensor) -> None:
        """Raise where a model gives what are no numbers, which would pass for things that are not there."""
        if not all(torch.isfinite(each).all() for each in numbers):
            raise DriverError(f"{self.name} gives what are no numbers; they may not fit its number type.")

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
        kept = top.values > self._least  # a mask is never clearer than 1, so what falls here falls in any case
        by_query: dict[int, list[tuple[int, float]]] = {}
        for chance, index in zip(top.values[kept].tolist(), top.indices[kept].tolist(), strict=True):
            query, label = divmod(index, chances.shape[1])
            by_query.setdefault(query, []).append((label, chance))
        found = []
        for query, labels in by_query.items():
            whole = interpolate(masks[None, query : query + 1], size=sides[:2], mode="bilinear", align_corners=False)
            cut = whole[..., : sides[2], : sides[3]]
            mask = interpolate(cut, size=size[::-1], mode="bilinear", align_corners=False)[0, 0]
            own = mask > 0
            if not own.any():
                continue
            clear = float(mask[own].sigmoid().mean())
            (top_row, bottom), (left, right) = _extent(own.any(dim=1)), _extent(own.any(dim=0))
            pixels = own[top_row:bottom, left:right].cpu().numpy().copy()  # the whole would stay in memory behind it
            box = (left, top_row, right, bottom)
            sure = [(self._labels[label], chance * clear) for label, chance in labels if label in self._labels]
            found += [Detection(name, box, score, pixels) for name, score in sure if score > self._least]
        return found

    def _detect_owl(self, images: Sequence[Image.Image], names: Sequence[list[str]]) -> list[list[Detection]]:
        """Boxes of all words together, each picture's with those of its own words that fit them best."""
        together = list(dict.fromkeys(name for own in names for name in own))
        if not together:
            return [[] for _ in images]
        limit = self._model.config.text_config.max_position_embeddings
        texts = [[f"a photo of a {name}" for name in together]] * len(images)
        inputs = self._processor(
            text=texts, images=list(images), return_tensors="pt", truncation=True, padding="max_length", max_length=limit
        ).to(self._device)
        outputs = self._model(**(inputs | {"pixel_values": inputs["pixel_values"].to(self._dtype)}))
        self._check(outputs.logits, outputs.pred_boxes)
        found = []
        for logits, boxes, own, image in zip(outputs.logits.float(), outputs.pred_boxes.float(), names, images, strict=True):
            # OWLv2 pads pictures to squares, on the right and below.
            sides = (max(image.size), max(image.size)) if self._model.config.model_type == "owlv2" else image.size
            found.append(self._best(boxes, logits[:, [together.index(name) for name in own]], own, sides) if own else [])
        return found

    def _detect_grounded(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        """Boxes with the words that fit them best: a box is as sure of a name as of its surest token, as transformers counts it."""
        found: list[list[Detection]] = [[] for _ in images]
        for part in self._texts(names):
            for own, several in zip(found, self._detect_text(images, part), strict=True):
                own += several
        return found

    def _texts(self, names: list[str]) -> Iterator[list[str]]:
        """Names in parts that Grounding DINO can read at once."""
        limit, part, used = self._model.config.max_text_len - 2, [], 0
        for name in names:
            length = len(self._processor.tokenizer(_said(name), add_special_tokens=False).input_ids)
            if length > limit:
                raise DriverError(f"{self.name} cannot read a name as long as {name[:40]!r}.")
            if part and used + length > limit:
                yield part
                part, used = [], 0
            part, used = [*part, name], used + length
        if part:
            yield part

    def _detect_text(self, images: Sequence[Image.Image], names: list[str]) -> list[list[Detection]]:
        spans, text = [], ""
        for name in names:
            spans.append((len(text), len(text) + len(_said(name)) - 1))
            text += f"{_said(name)} "
        inputs = self._processor(text=[text.strip()] * len(images), images=list(images), return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0].tolist()
        inputs = inputs.to(self._device)
        outputs = self._model(**(inputs | {"pixel_values": inputs["pixel_values"].to(self._dtype)}))
        tokens = [[place for place, (left, right) in enumerate(offsets) if start <= left < right <= end] for start, end in spans]
        if lost := [name for name, own in zip(names, tokens, strict=True) if not own]:
            raise DriverError(f"{self.name} cannot read {lost[0]!r}.")
        found = []
        for logits, boxes, image in zip(outputs.logits.float(), outputs.pred_boxes.float(), images, strict=True):
            by_name = torch.stack([logits[:, own].amax(dim=1) for own in tokens], dim=1)
            self._check(by_name, boxes)
            found.append(self._best(boxes, by_name, names, image.size))
        return found

    def _best(self, boxes: Tensor, logits: Tensor, names: Sequence[str], sides: tuple[int, int]) -> list[Detection]:
        """Each box with the name that fits it best.

        Args:
            boxes: Centre, width and height, in units of `sides`; shape (box, 4).
            logits: Of each box and name; shape (box, name).
            names: What was looked for.
            sides: Width and height in pixels of what the boxes are measured by.
        """
        best = logits.max(dim=1)  # of chances several may be 1 to the last digit
        chances = best.values.sigmoid()
        centres, halves = boxes[:, :2], boxes[:, 2:] / 2
        corners = torch.cat([centres - halves, centres + halves], dim=1) * torch.tensor([*sides, *sides], device=boxes.device)
        kept = chances > self._least
        rows = {"boxes": corners[kept], "scores": chances[kept], "labels": best.indices[kept]}
        return [Detection(names[label], (*box,), score) for box, score, label in _rows(rows)]


def _said(name: str) -> str:
    """A name as Grounding DINO reads it: in lower case, with a full stop."""
    return f"{name.lower().strip(' .')}."


def _rows(found: dict[str, Tensor]) -> Iterator[tuple[Any, float, int]]:
    """Boxes, confidences and labels one by one."""
    return zip(*(found[name].tolist() for name in ("boxes", "scores", "labels")), strict=True)


def _inside(things: Sequence[Detection], size: tuple[int, int]) -> Iterator[Detection]:
    """Things with boxes that end where the picture does; without those that lie beyond it."""
    width, height = size
    for each in things:
        left, top, right, bottom = each.box
        box = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if box[0] < box[2] and box[1] < box[3]:
            yield each._replace(box=box)


def _unpadded(inputs: Any) -> tuple[int, int]:
    """Height and width of what is no padding; the same for all of a batch."""
    if "pixel_mask" not in inputs:
        height, width = inputs.pixel_values.shape[-2:]
        return height, width
    mask = inputs.pixel_mask[0].bool()
    return int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())


def _extent(flags: Tensor) -> tuple[int, int]:
    """From the first that is true to behind the last."""
    (places,) = torch.nonzero(flags, as_tuple=True)
    return int(places[0]), int(places[-1]) + 1
