"""`vernissage train`: trainings that resume."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import named

if TYPE_CHECKING:
    from vernissage.judging.nn.training import Agreement


@click.group(name="train")
def command() -> None:
    """Train a judge or a planner from a recipe; a training that was cut off goes on where it stopped."""


@command.command(name="judge")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Learn from all prompts, none held out for a test.")
@click.option("--cross-validate", is_flag=True, help="Train and test on every fold in turn.")
def judge(recipe: Path, everything: bool, cross_validate: bool) -> None:
    """Train a judge on the ratings that RECIPE names, and measure it on prompts that it never saw.

    \b
    vernissage train judge judge.toml
    accelerate launch --num_processes 4 -m vernissage train judge judge.toml --all
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.datasets.judged import load_judged
    from vernissage.errors import BadInput
    from vernissage.judging.measured import measure, write_predictions
    from vernissage.judging.recipe import load_recipe
    from vernissage.wiring import import_local

    if everything and cross_validate:
        raise BadInput("--all holds no prompts out, and --cross-validate does.", hint="Give one of the two.")
    chosen = load_recipe(recipe)
    training = import_local("vernissage.judging.nn.training")
    rows = load_judged(chosen.data, chosen.images)
    root = chosen.images or chosen.data.parent
    if cross_validate:
        with progress_bar("training") as progress:
            folds = import_local("vernissage.judging.nn.cross_validation").cross_validate(
                chosen, rows, progress=lambda number: lambda done, total: progress(number * total + done, chosen.folds * total)
            )
        for fold in folds:
            for row in measure(fold.said, fold.rows):
                click.echo(f"fold {fold.number}, {row}")
        said, tested = [own for fold in folds for own in fold.said], [row for fold in folds for row in fold.rows]
        for row in measure(said, tested):
            click.echo(f"all folds, {row}")
        held = [fold.number for fold in folds for _ in fold.rows]
        for path in write_predictions(chosen.out, said, tested, root=root, folds=held):
            click.echo(named(path))
        return
    part = training.split(rows, chosen, test=not everything)
    with progress_bar("training") as progress:
        spec = training.train_judge(chosen, part.train, part.validation, chosen.out, progress=progress)
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one tells
    click.echo(f"validation, {len(part.validation)} pictures: {_shown(training.Agreement(**spec.trained['validation']))}")
    if part.test:
        said = training.judge_saved(chosen.out, part.test, batch_size=chosen.batch_size)
        for row in measure(said, part.test):
            click.echo(f"test, {row}")
        for path in write_predictions(chosen.out / "test", said, part.test, root=root):
            click.echo(named(path))
    click.echo(named(chosen.out))


@command.command(name="planner")
@click.argument("recipe", type=click.Path(path_type=Path))
def planner(recipe: Path) -> None:
    """Train a planner, Base or Evo, on the queries that RECIPE names.

    \b
    vernissage train planner planner.toml
    vernissage paint --planner planners/evo "a red car in the city"
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.datasets.queries import read_queries
    from vernissage.painting.recipe import load_recipe
    from vernissage.wiring import import_local

    chosen = load_recipe(recipe)
    queries = read_queries(chosen.data)
    training = import_local("vernissage.painting.nn.training")
    with progress_bar("training") as progress:
        spec = training.train_planner(chosen, queries, progress=progress)
    click.echo(f"{spec.name}: {spec.kind}, {len(queries)} queries" + (f", {len(spec.models)} models" if spec.models else ""))
    if "token_accuracy" in spec.trained:
        click.echo(
            f"ModelTokens: loss {spec.trained['token_loss']:.3f}, right on {spec.trained['token_accuracy']:.1%} of the training queries"
        )
    if without := int(spec.trained.get("models_without_card", 0)):
        told = f"{without} of {len(spec.models)} models have no card in `cards`, so models added later cannot be chosen by what theirs say."
        click.echo(told, err=True)
    click.echo(named(chosen.out))


def _shown(found: "Agreement") -> str:
    names = (("perception", "SRCC perception"), ("correspondence", "SRCC correspondence"), ("accuracy", "answers right"))
    return ", ".join(f"{label} {value:.3f}" for name, label in names if (value := getattr(found, name)) is not None)
