"""What the docs and examples say can be done."""

import re
import runpy
from pathlib import Path

import click
import pytest

from vernissage.cli import cli
from vernissage.drivers.samplers import find_sampler
from vernissage.records.plan import Plan
from vernissage.wiring import load_config
from vernissage.zoo.catalogue import load_catalogue

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_configuration_is_valid_and_its_models_have_cards(path):
    config = load_config(path)
    assert len(load_catalogue(config.cards).choose(config.models)) == len(config.models)


@pytest.mark.parametrize("model", list(load_catalogue()))
def test_a_shipped_card_can_paint_its_own_demonstrations_with_samplers_that_exist(model):
    card = load_catalogue()[model]
    assert card.demonstrations
    for shown in card.demonstrations:
        card.check(Plan(prompt=shown.prompt, negative_prompt=shown.negative_prompt, model=model, arguments=shown.arguments))
    for sampler in card.samplers:
        assert find_sampler(sampler).scheduler


def test_every_page_that_a_page_links_to_exists():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_benchmark_page_shows_the_newest_results():
    render = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))["render"]
    assert (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") == render()


@pytest.mark.parametrize("page", ["commands", "metrics", "studio"])
def test_a_generated_page_shows_what_the_program_says(page):
    render = runpy.run_path(str(ROOT / "docs" / f"{page}.py"))["render"]
    assert (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8") == render()


def test_every_help_fits_a_terminal_of_80_columns():
    walk = runpy.run_path(str(ROOT / "docs" / "commands.py"))["_walk"]
    for name, command in walk("vernissage", cli):
        told = command.get_help(click.Context(command, info_name=name, terminal_width=80, max_content_width=80))
        assert all(len(line) <= 80 for line in told.splitlines()), name
