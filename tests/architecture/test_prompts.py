"""Prompts are part of every result, so a changed one must carry a new version."""

import json
from pathlib import Path

import pytest

from vernissage.prompts import load_prompt, prompt_ids

LOCK = Path(__file__).with_name("prompts.lock.json")


def test_a_prompt_changes_only_together_with_its_version():
    locked = json.loads(LOCK.read_text(encoding="utf-8"))
    now = {prompt_id: {"version": load_prompt(prompt_id).version, "hash": load_prompt(prompt_id).hash} for prompt_id in prompt_ids()}
    assert now == locked, "raise the version of a changed prompt, then update prompts.lock.json"


@pytest.mark.parametrize("prompt_id", prompt_ids())
def test_a_prompt_is_complete_and_renders_strictly(prompt_id):
    prompt = load_prompt(prompt_id)
    assert prompt.id == prompt_id
    assert prompt.source
    assert prompt.brief.strip()
    with pytest.raises(TypeError):
        prompt.render(unheard_of="x")
