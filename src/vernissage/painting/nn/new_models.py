"""Rows of W_M for models that no planner was trained on: learned from what their cards say, without training again.

The state that a text about a model leaves behind (its description, or prompts that were painted well with it) is mapped to a row by
ridge regression on the models that were trained. ChatGen (arXiv 2411.17176) names this as an open problem; the map is ours.
"""

from typing import NamedTuple

import torch
from torch import Tensor

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SCALES = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
TAKEN = 0.005
"""Share of the other models' queries that a new one may take away more than a trained one does, on average; it takes a little more than
shows here, because the others were trained with its queries at hand."""


class RowMap(NamedTuple):
    """What the map is fitted on whenever it is needed: kept small, because there are fewer models than features."""

    features: Tensor
    """Shape (text, width): states that texts about trained models leave behind."""
    models: Tensor
    """Shape (text,): the number of the model that each is about."""
    chosen: Tensor
    """The ridge, and the factor by which guessed rows stand out from the mean row."""

    def rows(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Rows of W_M for new models.

        Args:
            tokens: W_M of the trained ones, shape (model, width).
            features: Shape (new model, width).
        """
        ridge, scale = self.chosen.tolist()
        return _predict(self.features.double(), tokens.double()[self.models], features.double(), ridge, scale).float()


def fit_row_map(features: Tensor, models: Tensor, tokens: Tensor, states: Tensor, targets: Tensor) -> RowMap:
    """Choose ridge and scale: those that serve best when each trained model is taken for a new one in turn.

    Args:
        features: Shape (text, width), of texts about the models.
        models: Shape (text,), what each is about.
        tokens: W_M, shape (model, width).
        states: Shape (sample, width), of training queries.
        targets: Shape (sample,), their models.

    Returns:
        Of the maps whose new models do not take too much away (see `TAKEN`), the one with the best mean reciprocal rank of a new model
        for its own queries; where there is none, the one that takes the least.
    """
    trained = states @ tokens.T
    own = trained.gather(1, targets[:, None])
    most = TAKEN + _taken(trained, own, targets)
    best, chosen = (-2.0, 0.0), (RIDGES[0], SCALES[0])
    for ridge in RIDGES:
        # One guess a model, from the first text about it.
        guesses = torch.cat([_left_out(features, models, tokens, model, ridge) for model in range(len(tokens))])
        middle = tokens.mean(dim=0)
        for scale in SCALES:
            scores = states @ (middle + scale * (guesses - middle)).T
            new = scores.gather(1, targets[:, None])
            rank = 1 + ((trained > new).sum(dim=1) - (own > new)[:, 0].long())
            worth = (-max(0.0, _taken(scores, own, targets) - most), float((1 / rank).mean()))
            if worth > best:
                best, chosen = worth, (ridge, scale)
    return RowMap(features, models, torch.tensor(chosen))


def _taken(scores: Tensor, own: Tensor, targets: Tensor) -> float:
    """The share of queries that a model wins over the right one, on average over models."""
    taken = (scores > own).float()
    taken[torch.arange(len(targets)), targets] = 0
    return float(taken.mean())


def _left_out(features: Tensor, models: Tensor, tokens: Tensor, model: int, ridge: float) -> Tensor:
    kept = models != model
    first = features[models == model][:1]
    return _predict(features[kept].double(), tokens[models[kept]].double(), first.double(), ridge, 1.0).float()


def _predict(known: Tensor, rows: Tensor, features: Tensor, ridge: float, scale: float) -> Tensor:
    """Ridge regression in its dual form."""
    middle, start = known.mean(dim=0), rows.mean(dim=0)
    near = known - middle
    gram = near @ near.T
    strength = ridge * gram.diagonal().mean().clamp(min=1e-12)
    weights = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=gram.dtype), rows - start)
    return start + scale * (features - middle) @ near.T @ weights
