"""ModelTokens by the shortcut are those that running the backbone in every epoch gives."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Qwen2Config

from vernissage.errors import BadInput
from vernissage.painting.nn.model_tokens import Samples, choose_model, token_loss, train_model_tokens, word_mass

MODELS, WORDS, WIDTH, SAMPLES = 7, 50, 16, 60


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(backbone):
    torch.manual_seed(1)
    ids = torch.randint(WORDS, (SAMPLES, 9))
    targets = ids[:, 0] % MODELS
    hidden = backbone.model(ids).last_hidden_state[:, -1]
    return ids, Samples(hidden, word_mass(hidden, backbone.lm_head.weight), targets)


def naive(backbone, ids, targets, start, *, epochs, lr, batch_size, seed):
    """The paper's loop: the backbone runs in every epoch, and the loss is over all words and models."""
    rng = torch.Generator().manual_seed(seed)
    tokens = start.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([tokens], lr=lr, weight_decay=1.0)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(ids), generator=rng).split(batch_size):
            hidden = backbone.model(ids[chosen]).last_hidden_state[:, -1]
            logits = hidden @ torch.cat([backbone.lm_head.weight, tokens]).T
            loss = F.cross_entropy(logits, WORDS + targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(ids))
    return tokens.detach(), losses


def test_the_shortcut_ends_where_the_naive_loop_ends(backbone, data):
    ids, samples = data
    start = torch.randn(MODELS, WIDTH, generator=torch.Generator().manual_seed(5)) * 0.02
    options = {"epochs": 5, "lr": 1e-2, "batch_size": 8, "seed": 3}
    slow, slow_losses = naive(backbone, ids, samples.targets, start, **options)
    losses = []
    fast = train_model_tokens(samples, MODELS, start=start, watch=lambda epoch, loss: losses.append(loss), **options)
    assert losses == pytest.approx(slow_losses, abs=1e-4)
    assert losses[-1] < losses[0] - 0.1, "nothing was learnt, so nothing was compared"
    assert torch.allclose(fast, slow, atol=1e-4)
    assert torch.equal((samples.hidden @ fast.T).argmax(1), (samples.hidden @ slow.T).argmax(1))


def test_the_loss_is_the_cross_entropy_over_all_words_and_models(backbone, data):
    _, samples = data
    tokens = torch.randn(MODELS, WIDTH)
    whole = F.cross_entropy(samples.hidden @ torch.cat([backbone.lm_head.weight, tokens]).T, WORDS + samples.targets)
    assert token_loss(*samples, tokens).item() == pytest.approx(whole.item(), rel=1e-5)


def test_probabilities_are_those_of_the_whole_softmax(backbone, data):
    _, samples = data
    tokens = torch.randn(MODELS, WIDTH)
    whole = (samples.hidden @ torch.cat([backbone.lm_head.weight, tokens]).T).softmax(dim=1)
    choice = choose_model(samples.hidden, samples.words, tokens)
    assert torch.allclose(choice.named, whole[:, WORDS:].sum(dim=1), atol=1e-6)
    assert torch.allclose(choice.models * choice.named[:, None], whole[:, WORDS:], atol=1e-6)


def test_the_mass_of_words_does_not_depend_on_the_batch(backbone, data):
    _, samples = data
    whole = torch.logsumexp(samples.hidden @ backbone.lm_head.weight.T, dim=1)
    for size in (1, 7, 1000):
        assert torch.allclose(word_mass(samples.hidden, backbone.lm_head.weight, batch_size=size), whole, atol=1e-5)


def test_the_same_seed_gives_the_same_tokens_and_another_one_others(data):
    _, samples = data
    first, second, third = (train_model_tokens(samples, MODELS, seed=seed, epochs=1) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("wrong", ["none", "uneven", "beyond", "below"])
def test_samples_that_do_not_fit_are_refused(data, wrong):
    _, samples = data
    changed = {
        "none": Samples(samples.hidden[:0], samples.words[:0], samples.targets[:0]),
        "uneven": samples._replace(words=samples.words[1:]),
        "beyond": samples._replace(targets=samples.targets + MODELS),
        "below": samples._replace(targets=samples.targets - MODELS),
    }[wrong]
    with pytest.raises(BadInput, match="target"):
        train_model_tokens(changed, MODELS)


def test_the_mass_of_words_counts_the_heads_bias():
    torch.manual_seed(0)
    hidden, head, bias = torch.randn(5, 4), torch.randn(7, 4), torch.randn(7)
    expected = torch.logsumexp(hidden @ head.T + bias, dim=1)
    assert word_mass(hidden, head, bias=bias, batch_size=2).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert word_mass(hidden, head).tolist() != pytest.approx(expected.tolist(), abs=1e-2)
