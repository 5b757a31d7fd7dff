"""Unified: one number for a painter from scores of any kind, each after its norm (ChatGen)."""

from collections.abc import Collection, Mapping
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

    def __str__(self) -> str:
        return f"{self.zero:g} to {self.one:g}"


CHATGEN = ("fid", "clipscore", "hpsv2", "image-reward")
"""What ChatGen's Unified is of."""
NORMS: dict[str, Norm] = {
    "fid": Norm(100.0, 0.0),
    "clip-fid": Norm(100.0, 0.0),
    "clipscore": Norm(0.0, 40.0),
    "hpsv2": Norm(0.2, 0.3),
    "image-reward": Norm(-0.5, 0.5),
    "pickscore": Norm(15.0, 30.0),
    "aesthetic": Norm(1.0, 10.0),
    "vqascore": Norm(0.0, 1.0),
    "judge-perception": Norm(0.0, 100.0),
    "judge-correspondence": Norm(0.0, 100.0),
}
"""By metric. Those of `CHATGEN` are the ones that give ChatGen's printed Unified from the other columns of its table, in all rows to
the last digit (its CLIPScore is 2.5 cosines, as in the CLIPScore paper, ours is 100; its HPSv2 and reward are times 100). The others are
ours."""


def unified(scores: Mapping[str, float]) -> float:
    """The mean of scores after their `NORMS`; a lower Frechet distance counts as higher.

    Args:
        scores: By metric, each on its own scale.

    Returns:
        In [0, 1]; higher is better.

    Raises:
        BadInput: There is no score, or one has no norm.

    References:
        ChatGen (arXiv 2411.17176), section on evaluation: mean of (1 - norm FID), norm CLIP, norm HPS, norm reward;
        its table of results for the norms.

    Example:
        >>> round(unified({"fid": 19.1, "clipscore": 72.9 / 2.5, "hpsv2": 0.251, "image-reward": 0.089}), 3)  # ChatGen-Evo
        0.659
    """
    check_norms(scores)
    return sum(NORMS[name].apply(value) for name, value in scores.items()) / len(scores)


def check_norms(names: Collection[str]) -> None:
    """See that Unified can be told of these metrics.

    Raises:
        BadInput: There is none, or one has no norm.
    """
    if unknown := [name for name in names if name not in NORMS]:
        raise BadInput(f"There is no norm for {', '.join(unknown)}.", hint=f"Unified takes: {', '.join(NORMS)}.")
    if not names:
        raise BadInput("Unified needs a score.", hint=f"It takes: {', '.join(NORMS)}.")
