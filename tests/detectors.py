"""Tiny detection checkpoints of the true architectures, with random weights, written once a session."""

import string

import pytest
import torch
from transformers import (
    BertTokenizer,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    ResNetConfig,
    SwinConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from checkpoints import clip_tokenizer

LABELS = {0: "cat", 1: "dog", 2: "mouse"}
_NAMED = {"num_labels": len(LABELS), "id2label": LABELS, "label2id": {label: number for number, label in LABELS.items()}}
_SIZE = {"shortest_edge": 128, "longest_edge": 192}
_SMALL = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 6,
}


def _vivid(model, head: str):
    """The same model with heads of larger weights, so that its detections differ in class, place and confidence."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if head in name and weights.dim() > 1:
                weights.mul_(40)
    return model.eval()


def _swin(*stages: str) -> SwinConfig:
    sizes = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}
    return SwinConfig(image_size=32, patch_size=4, out_features=list(stages), **sizes)


def _yolos():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = YolosConfig(image_size=[32, 32], patch_size=8, num_detection_tokens=6, **sizes, **_NAMED)
    model = _vivid(YolosForObjectDetection(config), "labels_classifier")
    torch.nn.init.normal_(model.vit.embeddings.detection_tokens)  # all zero, and so all alike, before training
    return model, YolosImageProcessorPil(size=_SIZE)


def _detr():
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, backbone=None, backbone_config=backbone, d_model=16, **_SMALL, **_NAMED)
    return _vivid(DetrForObjectDetection(config), "labels_classifier"), DetrImageProcessorPil(size=_SIZE)


def _mask2former():
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    sizes |= {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6}
    config = Mask2FormerConfig(backbone_config=_swin("stage1", "stage2", "stage3", "stage4"), **sizes, **_NAMED)
    return _vivid(Mask2FormerForUniversalSegmentation(config), "class_predictor"), Mask2FormerImageProcessorPil(size=_SIZE)


def _owlv2():
    tokenizer = clip_tokenizer()
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")} | {"pad_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, **ends, **layers}
    config = Owlv2Config(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **layers}, projection_dim=16)
    pixels = Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    return Owlv2ForObjectDetection(config).eval(), Owlv2Processor(image_processor=pixels, tokenizer=tokenizer)


def _grounding_dino():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase)]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    text = {"model_type": "bert", "vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "max_position_embeddings": 64}
    config = GroundingDinoConfig(
        backbone_config=_swin("stage2", "stage3", "stage4"),
        text_config=text,
        d_model=32,
        max_text_len=64,
        use_timm_backbone=False,
        **_SMALL,
    )
    pixels = GroundingDinoImageProcessorPil(size=_SIZE)
    model = GroundingDinoForObjectDetection(config).eval()
    return model, GroundingDinoProcessor(image_processor=pixels, tokenizer=tokenizer)


KINDS = {"yolos": _yolos, "detr": _detr, "mask2former": _mask2former, "owlv2": _owlv2, "grounding-dino": _grounding_dino}
OF_WORDS = ("owlv2", "grounding-dino")


@pytest.fixture(scope="session")
def detector_folders(tmp_path_factory):
    """A folder as `from_pretrained` reads it, by kind."""
    folders = {}
    for kind, make in KINDS.items():
        torch.manual_seed(3)
        model, processor = make()
        folders[kind] = tmp_path_factory.mktemp("detectors") / kind
        model.save_pretrained(folders[kind])
        processor.save_pretrained(folders[kind])
    return folders
