"""Rows of W_M for models that nobody trained: the map finds what there is to find, and new models rank well by it."""

import pytest
import torch

from vernissage.painting.nn.new_models import RIDGES, SCALES, RowMap, _taken, fit_row_map

MODELS, WIDTH, HIDDEN, SAMPLES = 24, 12, 6, 480


@pytest.fixture(scope="module")
def world():
    """Texts about models leave states of few directions behind; rows follow from them by a linear map, and queries from rows."""
    rng = torch.Generator().manual_seed(0)
    traits = torch.randn(MODELS + 4, HIDDEN, generator=rng)
    spread = torch.randn(HIDDEN, WIDTH, generator=rng)
    features = traits @ spread + 3.0
    tokens = traits @ torch.randn(HIDDEN, WIDTH, generator=rng) + 0.5
    targets = torch.randint(MODELS, (SAMPLES,), generator=rng)
    states = 2 * (tokens[targets] - tokens.mean(dim=0)) / tokens.std() + 0.3 * torch.randn(SAMPLES, WIDTH, generator=rng)
    return features, tokens, states, targets


def fitted(world) -> RowMap:
    features, tokens, states, targets = world
    twice = features[:MODELS].repeat_interleave(2, dim=0)  # two texts about each model
    return fit_row_map(twice, torch.arange(MODELS).repeat_interleave(2), tokens[:MODELS], states, targets)


def test_a_linear_map_is_recovered_for_models_that_were_not_trained(world):
    features, tokens, _, _ = world
    found = fitted(world)._replace(chosen=torch.tensor([1e-6, 1.0])).rows(tokens[:MODELS], features[MODELS:])
    assert found.shape == (4, WIDTH)
    assert torch.allclose(found, tokens[MODELS:], atol=1e-2)


def test_ridge_and_scale_are_chosen_among_those_there_are_and_small_where_nothing_is_uncertain(world):
    ridge, scale = fitted(world).chosen.tolist()
    assert min(abs(ridge - each) for each in RIDGES) < 1e-6
    assert min(abs(scale - each) for each in SCALES) < 1e-6
    assert ridge <= 0.1


def test_rows_that_have_nothing_to_do_with_the_texts_are_guessed_as_the_mean(world):
    features, tokens, _, _ = world
    noise = torch.randn(MODELS, WIDTH, generator=torch.Generator().manual_seed(9))
    whole = RowMap(features[:MODELS], torch.arange(MODELS), torch.tensor([1e9, 1.0]))
    assert torch.allclose(whole.rows(noise, features[MODELS:]), noise.mean(dim=0).expand(4, -1), atol=1e-3)
    assert not torch.allclose(whole.rows(tokens[:MODELS], features[MODELS:]), tokens[MODELS:], atol=0.1)


def test_models_that_were_left_out_rank_well_for_their_own_queries(world):
    features, tokens, states, targets = world
    ranks = []
    for model in range(0, MODELS, 3):
        kept = [each for each in range(MODELS) if each != model]
        own = targets == model
        rows = torch.isin(targets, torch.tensor(kept))
        number = {each: place for place, each in enumerate(kept)}
        found = fit_row_map(
            features[kept],
            torch.arange(len(kept)),
            tokens[kept],
            states[rows],
            torch.tensor([number[each] for each in targets[rows].tolist()]),
        )
        guess = found.rows(tokens[kept], features[model][None])
        scores = states[own] @ torch.cat([tokens[kept], guess]).T
        ranks += (1 + (scores > scores[:, -1:]).sum(dim=1)).tolist()
    assert len(ranks) > 50
    assert sum(1 / rank for rank in ranks) / len(ranks) > 0.5, "by lot it would be below 0.2"


def test_the_first_text_about_a_model_is_what_a_new_one_would_have(world):
    """The map is chosen for descriptions, so what later texts say does not change how it is tried out, only how it is fitted."""
    features, tokens, states, targets = world
    other = features[:MODELS].clone()
    other[:, 0] += 100
    texts = torch.cat([features[:MODELS], other])
    found = fit_row_map(texts, torch.arange(MODELS).repeat(2), tokens[:MODELS], states, targets)
    assert found.features.shape == (2 * MODELS, WIDTH)
    assert found.chosen.isfinite().all()
    assert found.rows(tokens[:MODELS], features[MODELS:]).isfinite().all()


@pytest.mark.parametrize("count", [1, 2])
def test_few_models_give_a_map_of_finite_rows(world, count):
    features, tokens, states, targets = world
    few = targets < count
    found = fit_row_map(features[:count].repeat(2, 1), torch.arange(count).repeat(2), tokens[:count], states[few], targets[few])
    rows = found.rows(tokens[:count], features[MODELS:])
    assert found.chosen.isfinite().all()
    assert rows.isfinite().all()
    if count == 1:
        assert torch.allclose(rows, tokens[:1].expand(4, -1), atol=1e-5), "one model is all that is known"


def test_equal_texts_about_different_models_break_nothing(world):
    _, tokens, states, targets = world
    found = fit_row_map(torch.ones(MODELS, WIDTH), torch.arange(MODELS), tokens[:MODELS], states, targets)
    assert torch.allclose(found.rows(tokens[:MODELS], torch.ones(1, WIDTH)), tokens[:MODELS].mean(dim=0), atol=1e-4)


def test_a_query_that_stays_with_its_own_model_is_taken_from_nobody():
    own = torch.tensor([[1.0], [1.0]])
    scores = torch.tensor([[2.0, 0.0], [3.0, 2.0]])  # the right ones, 0 and 1, take nothing from themselves
    assert _taken(scores, own, torch.tensor([0, 1])) == pytest.approx(1 / 4)
