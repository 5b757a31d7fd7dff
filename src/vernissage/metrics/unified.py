"""Unified: one number for a painter from FID, CLIPScore, HPSv2 and ImageReward (ChatGen)."""

from typing import NamedTuple

from vernissage.errors import BadInput


class Norm(NamedTuple):
    """The value that counts as 0 and the one that counts as 1; a norm is part of the result and must be told with it."""

    zero: float
    one: float

    def apply(self, value: float) -> float:
        """The value's place between the two, cut to [0, 1].

        Raises:
            BadInput: The norm has no length.
        """
        if self.zero == self.one:
            raise BadInput("A norm needs two different values.", hint="State what counts as 0 and what as 1.")
        return min(1.0, max(0.0, (value - self.zero) / (self.one - self.zero)))


NORMS = {"fid": Norm(100.0, 0.0), "clip": Norm(0.0, 100.0), "hpsv2": Norm(0.0, 100.0), "reward": Norm(-100.0, 100.0)}
"""Ours: ChatGen (arXiv 2411.17176) does not print its norms, and its Unified cannot be had from its table with these."""


def unified(scores: dict[str, float], norms: dict[str, Norm] | None = None) -> float:
    """The mean of the four scores after their norms; a lower FID counts as higher.

    Args:
        scores: fid, clip, hpsv2 and reward, on the scales of ChatGen's table (per cent but for FID).
        norms: One for each of them; `NORMS` where left out.

    Returns:
        In [0, 1]; higher is better.

    Raises:
        BadInput: A score or a norm is missing.

    References:
        ChatGen (arXiv 2411.17176), section on evaluation: mean of (1 - norm FID), norm CLIP, norm HPS, norm reward.

    Example:
        >>> unified({"fid": 20.0, "clip": 70.0, "hpsv2": 25.0, "reward": 10.0})
        0.575
    """
    norms = norms or NORMS
    if set(scores) != set(norms):
        raise BadInput(f"Unified needs {', '.join(norms)}, not {', '.join(scores)}.", hint="Score all of them.")
    return sum(norms[name].apply(value) for name, value in scores.items()) / len(scores)
