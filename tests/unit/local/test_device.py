"""In which number type a model works: as asked, and by itself the fastest that loses nothing that matters."""

import pytest
import torch

from vernissage.local.device import pick_precision

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
