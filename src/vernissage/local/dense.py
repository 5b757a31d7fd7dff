"""Dense layers by oneDNN, for processors on which torch leaves half of their speed; knows torch and nothing of any model.

torch multiplies matrices of float32 by MKL, which uses AVX-512 on Intel's processors alone. oneDNN, by which torch computes
convolutions, uses it wherever there is any: the same products, to rounding, in half the time on AMD's Zen 4 and 5.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

_PROCESSORS = Path("/proc/cpuinfo")
_WORTH_A_CALL = 2**21
"""Products in a layer's call; of fewer, MKL is done before oneDNN has looked up what to do (seen at widths of 144 to 1,024)."""


class OneDnnLinear(nn.Linear):
    """An `nn.Linear` that multiplies by oneDNN where nothing is learnt and there is much to multiply in float32 on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Linear`: shape (…, in) to (…, out)."""
        if (
            input.numel() * self.out_features < _WORTH_A_CALL
            or input.device.type != "cpu"
            or not (input.dtype is self.weight.dtype is torch.float32)
            or torch.is_grad_enabled()  # this way has no gradient
            or torch.is_autocast_enabled("cpu")
        ):
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def use_onednn(model: nn.Module) -> None:
    """Let a model's dense layers multiply by oneDNN, in place; names, weights and what adapters find stay the same."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = OneDnnLinear


@cache
def onednn_is_faster() -> bool:
    """Whether this is a processor of AMD with AVX-512, and this torch has MKL and oneDNN's linear operation."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    # On Linux platform.processor() does not name the maker.
    told = _PROCESSORS.read_text(encoding="utf-8", errors="replace") if _PROCESSORS.exists() else platform.processor()
    return "AuthenticAMD" in told
