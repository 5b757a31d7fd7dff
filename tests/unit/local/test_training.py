"""The loop that all mini recipes share: a training that was cut off ends where an uninterrupted one ends."""

import json

import pytest
import torch
from torch import nn

from vernissage.local import training


def train(folder, steps, *, stop_after=None):
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    average = training.Average(module, 0.9)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    loop = training.training_steps(folder, steps, optimizer, peak=0.1, modules={"m": module}, averages={"m": average}, log_every=5)
    for step, losses in loop:
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = (module(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses["loss"] = loss.item()
        if step == stop_after:
            break  # as a killed process leaves it: this step is in no saved state
    return module, average


def test_a_training_that_was_cut_off_ends_like_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    whole, whole_average = train(tmp_path / "whole", 20)
    train(tmp_path / "cut", 20, stop_after=6)
    train(tmp_path / "cut", 20, stop_after=13)
    resumed, resumed_average = train(tmp_path / "cut", 20)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed_average.weights["weight"], whole_average.weights["weight"])
    assert not list((tmp_path / "cut").glob("*.new")), "states are replaced whole"
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 15, 20]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_twentieth():
    rates = [training.cosine(step, 1000, 1e-3) for step in range(1001)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[0] == pytest.approx(1e-5)
    assert rates[-1] == pytest.approx(5e-5)
    assert rates[100:] == sorted(rates[100:], reverse=True)
