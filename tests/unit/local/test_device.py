"""Where and in which number type a model works: as asked, and by itself the fastest that loses nothing that matters."""

import pytest
import torch

from vernissage.errors import BadInput
from vernissage.local.device import pick_device, pick_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("told", "precision"), [({"avx2": True, "avx512_bf16": False}, "no"), ({"avx2": True, "amx_bf16": True}, "bf16")])
def test_a_training_multiplies_in_bfloat16_only_where_the_processor_has_instructions_for_it(monkeypatch, told, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert pick_precision("auto", CPU) == precision


def test_a_torch_that_cannot_tell_what_the_processor_has_trains_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_precision("auto", CPU) == "no"


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_precision_that_a_recipe_names_is_kept_whatever_the_processor_has(precision):
    assert pick_precision(precision, CPU) == precision


@pytest.mark.parametrize(
    ("device", "hint"), [("mps", "'auto'"), ("cuda:1", "cuda:0"), ("xpu", "'auto'"), ("meta", "'mps'"), ("gpu", "'mps'")]
)
def test_a_device_that_is_not_here_is_refused_with_what_to_do(monkeypatch, device, hint):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BadInput, match=f"'{device}'") as caught:
        pick_device(device)
    assert hint in caught.value.hint


def test_a_device_that_is_here_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for device in ("cpu", "cuda", "cuda:1", "mps"):
        assert str(pick_device(device)) == device
