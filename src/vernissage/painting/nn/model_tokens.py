"""ModelTokens: one output embedding for each T2I model, appended to a language model's head (ChatGen, step 2).

P(m | c, p) = softmax([W_v; W_M] h). The backbone is frozen and only W_M is trained, so the hidden state h of a sample and the
log-sum-exp of its ordinary words' logits, log sum exp(W_v h), never change. Both are computed once; then W_M is a multinomial
logistic regression with one constant class that stands for all ordinary words. Same loss, same gradients, same optimum as running
the backbone in every epoch, which is what the paper does.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vernissage.errors import BadInput


class Samples(NamedTuple):
    """What ModelTokens are trained on."""

    hidden: Tensor
    """Shape (sample, width): the state after chat and prompt."""
    words: Tensor
    """Shape (sample,): log-sum-exp of the ordinary words' logits there."""
    targets: Tensor
    """Shape (sample,): number of the right model."""


class Choice(NamedTuple):
    """How likely each model is."""

    models: Tensor
    """Shape (sample, model); given that a model is named at all, rows sum to 1."""
    named: Tensor
    """Shape (sample,): probability that a model is named rather than an ordinary word."""


@torch.no_grad()
def word_mass(hidden: Tensor, head: Tensor, *, bias: Tensor | None = None, batch_size: int = 256) -> Tensor:
    """Log-sum-exp of the ordinary words' logits, shape (sample,), batch by batch.

    Args:
        hidden: Shape (sample, width).
        head: The language model's own output embeddings W_v, shape (word, width).
        bias: Of the head, shape (word,).
        batch_size: Samples at once: the logits of a batch are in memory.
    """
    parts = [torch.logsumexp(F.linear(part, head, bias).float(), dim=1) for part in hidden.split(batch_size)]
    return torch.cat(parts) if parts else hidden.new_empty(0)


def train_model_tokens(
    samples: Samples,
    count: int,
    *,
    start: Tensor | None = None,
    epochs: int = 5,
    lr: float = 4e-5,
    weight_decay: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    watch: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Train W_M.

    Args:
        samples: Hidden states, masses and targets.
        count: Number of models.
        start: W_M to begin with, shape (model, width); small random rows where left out.
        epochs: Passes over the samples; the order is drawn anew in each.
        lr: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Samples a step.
        seed: Decides the first rows and the order.
        watch: Called with (epoch, mean loss).

    Returns:
        W_M, shape (model, width), float32.

    Raises:
        BadInput: There are no samples, shapes do not fit, or a target is no model.

    References:
        ChatGen (arXiv 2411.17176), section on ModelTokens; AdamW, lr 4e-5, weight decay 1.0, 5 epochs.
    """
    hidden, words, targets = samples
    if not len(hidden) or not len(hidden) == len(words) == len(targets):
        raise BadInput(
            f"There are {len(hidden)} states, {len(words)} masses and {len(targets)} targets.", hint="Give one of each a sample."
        )
    if int(targets.min()) < 0 or int(targets.max()) >= count:
        raise BadInput(f"A target is not among the {count} models.", hint="Number the models from 0.")
    rng = torch.Generator().manual_seed(seed)
    if start is None:
        start = torch.randn(count, hidden.shape[1], generator=rng) * 0.02
    tokens = start.to(hidden.device, torch.float32).clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([tokens], lr=lr, weight_decay=weight_decay)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(hidden), generator=rng).split(batch_size):
            loss = token_loss(hidden[chosen].float(), words[chosen], targets[chosen], tokens)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        if watch:
            watch(epoch, total / len(hidden))
    return tokens.detach()


def token_loss(hidden: Tensor, words: Tensor, targets: Tensor, tokens: Tensor) -> Tensor:
    """Mean of -log P(m | c, p) over samples.

    The same as the cross-entropy over all ordinary words and all models, as only the sum of the ordinary ones matters.
    """
    logits = torch.cat([words[:, None], hidden @ tokens.T], dim=1)
    return F.cross_entropy(logits, targets + 1)


@torch.no_grad()
def choose_model(hidden: Tensor, words: Tensor, tokens: Tensor) -> Choice:
    """The probability of each model after chat and prompt."""
    logits = hidden.float() @ tokens.T
    mass = torch.logsumexp(logits, dim=1)
    return Choice(logits.softmax(dim=1), torch.sigmoid(mass - words))
