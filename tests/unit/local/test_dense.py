"""Dense layers by oneDNN: the same products, and only where nothing is learnt."""

import pytest
import torch
from torch import nn

from vernissage.local.dense import OneDnnLinear, onednn_is_faster, use_onednn
from vernissage.local.device import settle

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no linear operation of oneDNN")


def layer_and_twin(bias: bool = True, width: int = 96, out: int = 160) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    plain, fast = nn.Linear(width, out, bias=bias), nn.Linear(width, out, bias=bias)
    fast.load_state_dict(plain.state_dict())
    use_onednn(fast)
    return plain, fast


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN is called with from now on."""
    seen, real = [], torch.ops.mkldnn._linear_pointwise

    def counted(rows, *others):
        seen.append(tuple(rows.shape))
        return real(rows, *others)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        torch.randn(300, 96),
        torch.randn(2, 3, 50, 96),
        torch.randn(96, 300).T,
        torch.randn(4, 200, 96)[:, ::2],
        torch.randn(1, 96).expand(300, 96),
    ],
    ids=["matrix", "four axes", "transposed", "every second", "expanded"],
)
@torch.inference_mode()
def test_products_are_those_of_torch_to_rounding(rows, bias, monkeypatch):
    plain, fast = layer_and_twin(bias)
    calls = calls_of(monkeypatch)
    assert torch.allclose(fast(rows), plain(rows), atol=1e-5)
    assert fast(rows).shape == plain(rows).shape
    assert calls


@pytest.mark.parametrize("rows", [torch.randn(0, 96), torch.randn(3, 96)], ids=["none", "few"])
@torch.inference_mode()
def test_few_products_stay_with_torch(rows, monkeypatch):
    plain, fast = layer_and_twin()
    calls = calls_of(monkeypatch)
    assert torch.equal(fast(rows), plain(rows))
    assert not calls


def test_gradients_are_those_of_torch(monkeypatch):
    plain, fast = layer_and_twin()
    calls, rows = calls_of(monkeypatch), torch.randn(300, 96)
    for layer in (plain, fast):
        layer(rows).square().sum().backward()
    assert torch.equal(fast.weight.grad, plain.weight.grad)
    assert not calls


@torch.inference_mode()
def test_half_precision_and_autocast_stay_with_torch(monkeypatch):
    plain, fast = layer_and_twin()
    calls, rows = calls_of(monkeypatch), torch.randn(300, 96)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(rows), plain(rows))
        assert fast(rows).dtype is torch.bfloat16
    assert torch.equal(fast.bfloat16()(rows.bfloat16()), plain.bfloat16()(rows.bfloat16()))
    assert not calls


def test_only_plain_layers_are_changed_and_their_names_stay():
    class Own(nn.Linear):
        pass

    model = nn.ModuleDict({"plain": nn.Linear(2, 2), "own": Own(2, 2), "norm": nn.LayerNorm(2)})
    before = list(model.state_dict())
    use_onednn(model)
    use_onednn(model)
    assert [type(part) for part in model.values()] == [OneDnnLinear, Own, nn.LayerNorm]
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("faster", [True, False])
def test_a_model_is_placed_with_the_layers_that_are_fastest_here(faster, monkeypatch):
    monkeypatch.setattr("vernissage.local.device.onednn_is_faster", lambda: faster)
    model = settle(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), torch.device("cpu"), torch.float64)
    assert isinstance(model[0], OneDnnLinear) is faster
    assert not model.training
    assert model[0].weight.dtype is torch.float64


@pytest.mark.parametrize(
    ("maker", "vectors", "expected"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
@pytest.mark.parametrize("linux", [True, False])
def test_only_amds_processors_with_avx512_take_onednn(maker, vectors, expected, linux, tmp_path, monkeypatch):
    if linux:
        (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {maker}\n", encoding="utf-8")
    monkeypatch.setattr("vernissage.local.dense._PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: f"AMD64 Family 26 Model 2, {maker}" if not linux else "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert onednn_is_faster.__wrapped__() is expected
