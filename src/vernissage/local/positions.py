"""Where the tokens of packed rows stand, for models that count along the text and for those that place pictures by rows and columns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vernissage.local.branches import Packed


def positions_of(backbone: Any, packed: Packed, vision: Mapping[str, Tensor]) -> Tensor:
    """The packed positions, or for models that place pictures by rows and columns theirs, each branch going on from its trunk.

    Args:
        backbone: Any `AutoModelForImageTextToText`.
        packed: Rows of trunks and branches; a row's pictures are in its trunk.
        vision: The pictures of all rows, with `image_grid_thw` where the model places by it.

    Returns:
        Shape (row, token), or (3, row, token) for time, height and width.
    """
    place = getattr(backbone.model, "get_rope_index", None)
    if place is None or "image_grid_thw" not in vision:
        return packed.positions
    whole = packed.positions.expand(3, -1, -1).clone()
    seen = 0
    for row, trunk in enumerate(packed.trunks):
        ids = packed.input_ids[row : row + 1, :trunk]
        kinds = (ids == backbone.config.image_token_id).int()
        # Runs of picture tokens are pictures.
        count = int((kinds[0].diff(prepend=kinds.new_zeros(1)) == 1).sum())
        if not count:
            continue
        own, _ = place(ids, mm_token_type_ids=kinds, image_grid_thw=vision["image_grid_thw"][seen : seen + count].cpu())
        seen += count
        whole[:, row, :trunk] = own[:, 0]
        whole[:, row, trunk:] += int(own.max()) + 1 - trunk
    return whole
