"""Many questions about one picture in one pass: the picture is the trunk, each question a branch that sees the trunk and itself.

A branch gets the very states it would get if it were asked alone after the picture, because attention is causal, no other
branch is visible to it, and its positions go on from the trunk's. So one vision encoding and one reading of the picture's tokens
serve all questions, which three models with one pass per question (LMM4LMM, released code) pay for each time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Branch(NamedTuple):
    """A question in tokens, and the answer to learn where there is one."""

    question: list[int]
    answer: Sequence[int] = ()


class Packed(NamedTuple):
    """A batch of trunks with their branches."""

    input_ids: Tensor
    """Shape (picture, token)."""
    mask: Tensor
    """Shape (picture, 1, token, token), 0 where a token sees another, the type's lowest number where it does not."""
    positions: Tensor
    """Shape (picture, token): offset of each token within its trunk, or from its trunk's end on."""
    trunks: list[int]
    """Tokens of each trunk."""
    ends: Tensor
    """Shape (branch, 2): picture and place of each question's last token, all branches of the first picture first."""
    before: Tensor
    """Shape (answer token, 2): picture and place of the token before each token of an answer."""
    answers: Tensor
    """Shape (answer token,): the tokens to say there."""
    branch_of: Tensor
    """Shape (answer token,): to which branch each belongs."""


def pack(trunks: Sequence[Sequence[int]], branches: Sequence[Sequence[Branch]], *, pad: int, dtype: torch.dtype = torch.float32) -> Packed:
    """Lay out trunks with their branches, padded on the right.

    Args:
        trunks: Tokens of each picture's part, its image tokens among them.
        branches: Questions about each picture, at least one token long.
        pad: Token to fill up with; nothing sees it.
        dtype: Of the mask, that of the model.

    Example:
        >>> packed = pack([[1, 2]], [[Branch([3]), Branch([4, 5])]], pad=0)
        >>> packed.input_ids.tolist(), packed.positions.tolist()
        ([[1, 2, 3, 4, 5]], [[0, 1, 2, 2, 3]])
        >>> (packed.mask[0, 0] == 0).int().tolist()[3]
        [1, 1, 0, 1, 0]
    """
    length = max(len(trunk) + sum(len(q) + len(a) for q, a in own) for trunk, own in zip(trunks, branches, strict=True))
    ids = torch.full((len(trunks), length), pad)
    part = torch.full((len(trunks), length), -1)  # 0 the trunk, 1… the branches, -1 padding
    positions = torch.zeros((len(trunks), length), dtype=torch.long)
    ends, before, answers, branch_of = [], [], [], []
    for row, (trunk, own) in enumerate(zip(trunks, branches, strict=True)):
        ids[row, : len(trunk)] = torch.tensor(trunk)
        part[row, : len(trunk)] = 0
        positions[row, : len(trunk)] = torch.arange(len(trunk))
        start = len(trunk)
        for number, (question, answer) in enumerate(own, start=1):
            stop = start + len(question) + len(answer)
            ids[row, start:stop] = torch.tensor([*question, *answer])
            part[row, start:stop] = number
            positions[row, start:stop] = torch.arange(len(trunk), len(trunk) + stop - start)
            end = start + len(question) - 1
            before += [(row, end + index) for index in range(len(answer))]
            answers += answer
            branch_of += [len(ends)] * len(answer)
            ends.append((row, end))
            start = stop
    seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return Packed(
        ids,
        mask[:, None],
        positions,
        [len(trunk) for trunk in trunks],
        torch.tensor(ends).reshape(-1, 2),
        torch.tensor(before, dtype=torch.long).reshape(-1, 2),
        torch.tensor(answers, dtype=torch.long),
        torch.tensor(branch_of, dtype=torch.long),
    )
