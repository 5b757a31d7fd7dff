"""`vernissage bench`: benchmarks that resume, with tables, exports and reports."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import config_option, harmless, named, remark
from vernissage.errors import BadInput, UnknownName
from vernissage.records.files import write_whole
from vernissage.records.table import write_table

if TYPE_CHECKING:
    from numpy import ndarray

    from vernissage.api import Studio
    from vernissage.bench.chatgen import Item as Planned
    from vernissage.bench.chatgen import Known, Row
    from vernissage.bench.duels import Asked
    from vernissage.bench.repaint import Item
    from vernissage.bench.run import Run
    from vernissage.datasets.evalmi import EvalMi
    from vernissage.datasets.queries import Query
    from vernissage.metrics.interval import Estimate

_FEW = 3
"""References of a kind: of fewer a table says little."""


@click.group(name="bench")
def command() -> None:
    """Benchmarks over many models and pictures; one that was cut off goes on where it stopped."""


@command.command(name="repaint")
@click.option("--models", required=True, help="Ids of the models under test, with commas between; mini/* stands for all that begin so.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of reference pictures, for example EvalRef-100.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/repaint"), show_default=True, help="Folder of the run.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N references.")
@click.option("--rounds", type=click.IntRange(1, 20), default=4, show_default=True)
@click.option("--candidates", type=click.IntRange(1, 32), default=3, show_default=True)
@click.option("--words", type=click.Choice(["tree", "direct", "interrogate"]), default="tree", show_default=True)
@click.option("--patience", type=click.IntRange(0), default=0, help="Stop a reference after N rounds without a better picture.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--rate", default="consistency,perception", show_default=True, help="What is rated, of consistency, perception, match, facts; or none."
)
@click.option("--rater", type=click.Choice(["mllm", "judge"]), default="mllm", show_default=True, help="Who rates.")
@click.option("--weights", help='Of the scores by which pictures are chosen, like "clip=1,dinov2=1,consistency=0.5".')
@click.option("--retry", is_flag=True, help="Do again what ended unscored or lacks a score, for example because a server was down.")
@click.option("--people", type=click.Path(path_type=Path), help="CSV of human ratings to compare with; see docs/repaint.md.")
@click.option(
    "--export", type=click.Path(path_type=Path), help="Also write the layout of the authors' benchmark_results below this folder."
)
@config_option
def repaint(
    models: str,
    data: Path,
    out: Path,
    limit: int | None,
    words: str,
    rate: str,
    rater: str,
    weights: str | None,
    retry: bool,
    people: Path | None,
    export: Path | None,
    config: Path | None,
    **numbers: int,
) -> None:
    """Let every model repaint every reference picture and compare the models.

    \b
    vernissage bench repaint --models mini/general,mini/neon --data references/
    """  # noqa: D301  click wants the character itself
    from vernissage.bench.export import export_results
    from vernissage.bench.people import agreement, read_ratings
    from vernissage.bench.references import find_references
    from vernissage.bench.repaint import open_run, read_items, run_benchmark
    from vernissage.bench.report import render_report
    from vernissage.cli.show import check_folder, names_of, progress_bar, weights_of
    from vernissage.cli.studio import open_studio
    from vernissage.metrics.interval import decimals
    from vernissage.repainting.loop import Settings

    if export:
        check_folder(export)
    studio = open_studio(config)
    references = find_references(data, limit=limit)
    chosen = _choose(names_of(models), list(studio.all_models))
    opinions = read_ratings(people) if people else {}
    settings = Settings.model_validate({"words": words, "rate": names_of(rate), "rater": rater, **weights_of(weights), **numbers})
    run = open_run(out, studio, chosen, references, settings)
    with progress_bar("repainting") as progress:
        run_benchmark(run, studio, references, settings, retry=retry, progress=progress)
    items = read_items(run.header, run.items)
    _show_table(items)
    if unmatched := opinions.keys() - {(item.model, item.reference) for item in items}:
        model, reference = map(harmless, min(unmatched))
        told = f"{len(unmatched)} of {len(opinions)} rated pictures are not in this run, among them {reference!r} by {model!r}."
        remark(told)
    for row in agreement(items, opinions) if opinions else []:
        values = f"SRCC {decimals(row.srcc)}  PLCC {decimals(row.plcc)}  KRCC {'-' if row.krcc is None else f'{row.krcc:.3f}'}"
        click.echo(f"{row.score} with people's {row.opinion}: {values}  n = {row.n}")
    report = run.folder / "report.html"
    write_whole(report, render_report(run, items))
    click.echo(named(report))
    if export:
        click.echo(named(export_results(run, items, export)))
    if not any(item.regeneration for item in items):
        sys.exit(1)


@command.command(name="compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--which", type=click.Choice(["last", "best"]), default="last", show_default=True, help="The last round's best, or the best of all."
)
def compare(first: Path, second: Path, which: str) -> None:
    """Compare two repainting runs on the models and references they share: FIRST minus SECOND, paired.

    \b
    vernissage bench compare runs/tree runs/direct
    """  # noqa: D301  click wants the character itself
    from vernissage.bench.repaint import compare_runs, exchanged, read_items
    from vernissage.bench.run import read_header, read_lines

    if first.resolve() == second.resolve():
        raise BadInput(f"{first} is compared with itself.", hint="Give the folders of two runs.")
    headers = read_header(first), read_header(second)
    for folder, header in zip((first, second), headers, strict=True):
        if header.suite != "repaint":
            raise BadInput(f"{folder} is a run of bench {header.suite}.", hint="Compare runs of bench repaint.")
    changed = headers[0].differences(headers[1])
    click.echo(f"The runs differ in: {', '.join(changed) or 'nothing'}.")
    one, two = (read_items(header, read_lines(folder)) for folder, header in zip((first, second), headers, strict=True))
    rows, others = compare_runs(one, two, which), exchanged(one, two)
    if others:
        click.echo(f"{len(others)} references are left out: they are other pictures of the same name.")
    if not rows:
        raise BadInput("The runs have no model and reference in common.", hint="Compare runs over the same data.")
    for row in rows:
        click.echo(f"{row.first:<24} {row.score:<12} {row.difference}  n = {row.difference.n}  p = {row.p_value:.4f}")


@command.command(name="chatgen")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Queries: .jsonl, .json or .parquet; see docs/planners.md.")
@click.option(
    "--planners", default="evo,base", show_default=True, help="evo, base, mllm, baseline, or folders of trained ones, with commas between."
)
@click.option(
    "--known", type=click.Choice(["nothing", "prompt", "model"]), default="nothing", show_default=True, help="What planners are told."
)
@click.option("--limit", type=click.IntRange(2), help="Only the first N queries.")
@click.option("--paint", "painted", type=click.IntRange(0), default=0, show_default=True, help="Paint the plans of N queries, and score.")
@click.option("--metrics", default="clip-fid,clipscore,judge-perception,judge-correspondence", show_default=True, help="Of painted plans.")
@click.option("--people", type=click.Path(path_type=Path), help="Votes of people on the page duels.html that --paint makes (CSV).")
@click.option("--retry", is_flag=True, help="Plan again what ended unscored, for example because a server was down.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/chatgen"), show_default=True, help="Folder of the run.")
@config_option
def chatgen(
    data: Path,
    planners: str,
    known: "Known",
    limit: int | None,
    painted: int,
    metrics: str,
    people: Path | None,
    retry: bool,
    out: Path,
    config: Path | None,
) -> None:
    """ChatGenBench: how good planners are at prompts, models and arguments.

    With --known prompt planners are told the true prompt, with --known model the model as well: what early steps cost late ones.
    With --paint the plans' pictures are scored and meet in pairs, before the judge and, on the page duels.html, before people.

    \b
    vernissage bench chatgen --data test.jsonl --planners evo,base,mllm,baseline
    """  # noqa: D301  click wants the character itself
    from vernissage.bench.chatgen import Prompts, differences, open_run, read_items, run_benchmark, table
    from vernissage.cli.show import check_folder, names_of, progress_bar, who
    from vernissage.cli.studio import open_studio
    from vernissage.datasets.queries import read_queries
    from vernissage.painting.planner_spec import read_spec
    from vernissage.wiring import planner_config
    from vernissage.zoo.catalogue import model_place

    check_folder(out)
    if people and not painted:
        raise BadInput("People's votes are about painted plans.", hint="Add --paint with the number that was painted for them.")
    names = names_of(planners)
    if not names:
        raise BadInput("No planner was named.", hint="Name some with --planners, with commas between.")
    queries = read_queries(data)[:limit]
    trained = [name for name in names if name not in ("mllm", "baseline")]
    for name in trained:
        config_of = planner_config(name)
        if known != "nothing" and config_of and read_spec(Path(model_place(str(config_of.options["model"]), Path()))).kind == "base":
            raise BadInput(f"{name} plans at once and cannot be told the {known}.", hint="Leave it out, or use --known nothing.")
    # The models are those of the first trained planner, unless the configuration names some.
    studio = open_studio(config, planner=trained[0] if trained else None)
    run = open_run(out, studio, names, queries, known)
    with progress_bar("planning") as progress:
        run_benchmark(run, studio, {name: studio.planner_maker(name) for name in names}, queries, retry=retry, progress=progress)
    items = read_items(run, queries)
    strange = sum(query.plan.model not in studio.catalogue.choosable for query in queries)
    if strange:
        whose = f"those of {trained[0]}" if trained else "the studio's"
        told = f"{strange} of {len(queries)} queries are for models that cannot be chosen; the models are {whose}."
        remark(told)
    prompts = Prompts(studio.text_encoder, queries) if studio.text_encoder else None
    rows = table(items, prompts)
    write_table(run.folder / "planners.csv", _steps_table(rows))
    _show_steps(rows, run.folder / "planners.csv")
    if prompts and studio.text_encoder:
        whose = "its published baseline" if prompts.published else "what these queries' prompts score with one another"
        click.echo(f"prompts by {who(studio.text_encoder.name)}; 0 is {whose}, F {prompts.zero.f:.3f}")
    for row in differences(items, prompts):
        click.echo(f"{row.first} - {row.second}, {row.measure:<10} {row.difference}  n = {row.difference.n}")
    for name, own in items.items():
        for reason, count in Counter(item.unscored for item in own if item.plan is None).most_common(5):
            click.echo(f"unscored: {name}: {count} x {harmless(reason.splitlines()[0])}", err=True)
    if not any(item.plan for own in items.values() for item in own):
        sys.exit(1)
    if painted:
        _paint_and_score(run, studio, items, painted, names_of(metrics), people)


def _paint_and_score(
    run: "Run", studio: "Studio", items: "dict[str, list[Planned]]", count: int, metrics: tuple[str, ...], people: Path | None
) -> None:
    from vernissage.bench.chatgen_pictures import TRUE, paint_items, score_pictures
    from vernissage.bench.duels import pairs_of, voted_duels, write_key, write_page
    from vernissage.cli.show import progress_bar
    from vernissage.metrics.interval import decimals
    from vernissage.metrics.unified import NORMS

    with progress_bar("painting") as progress:
        entries, failures = paint_items(run, studio, items, count, progress=progress)
    asked = min(count, len(next(iter(items.values()))))
    with progress_bar("scoring") as progress:
        drawn, duels = score_pictures(run, studio, entries, metrics, asked=asked, progress=progress)
    for name, reasons in failures.items():
        for reason, number in Counter(reasons).most_common(5):
            click.echo(f"not painted: {name}: {number} x {harmless(reason.splitlines()[0])}", err=True)
    for row in drawn:
        shown = ", ".join(f"{name} {decimals(each)}" for name, each in row.scores.items())
        whole = "-" if row.unified is None else f"{100 * row.unified:.1f}"
        click.echo(f"{row.planner}: unified {whole}; {shown}; painted {row.painted}/{row.asked}")
    click.echo("norms of unified: " + ", ".join(f"{name} {NORMS[name]}" for name in metrics))
    pairs = pairs_of({name: own for name, own in entries.items() if name != TRUE})
    for duel in duels + (voted_duels(people, pairs) if people else []):
        counts = f"{duel.wins} won, {duel.ties} even, {duel.losses} lost; lead {duel.lead}"
        click.echo(harmless(f"{duel.first} against {duel.second}, {duel.measure}: {counts}"))
    if pairs:
        write_page(pairs, {item.query.id: _asked(item.query) for own in items.values() for item in own}, run.folder / "duels.html")
        write_key(pairs, run.folder / "duels-key.csv")
        click.echo(named(run.folder / "duels.html"))


def _asked(query: "Query") -> "Asked":
    """What somebody asked for in all turns, with the reference pictures that are there."""
    from vernissage.bench.duels import Asked
    from vernissage.records.picture import is_picture

    text = "\n".join(turn.text if len(query.chat.turns) == 1 else f"{turn.role}: {turn.text}" for turn in query.chat.turns)
    return Asked(text, [image for turn in query.chat.turns for image in turn.images if is_picture(image)])


def _show_steps(rows: "Sequence[Row]", kept: Path) -> None:
    from vernissage.cli.show import show_table

    names = list(dict.fromkeys(name for row in rows for name in row.by_argument))
    headings = ["planner", "queries", "scored/asked", "prompt (BERTScore)", "model", "among 5", "arguments", *names, "s a query"]
    shown = []
    for row in rows:
        single = [f"{100 * row.by_argument[name].value:.1f}" if name in row.by_argument else "-" for name in names]
        estimates = [row.prompt, row.selection, row.among_five, row.arguments]
        shown.append([row.planner, row.part, f"{row.scored}/{row.asked}", *estimates, *single, f"{row.seconds:.3f}"])
    show_table(headings, shown, kept=named(kept))


def _steps_table(rows: "Sequence[Row]") -> list[dict[str, object]]:
    """The same for a file: every measure with its bounds, from 0 to 1."""
    found = []
    for row in rows:
        told: dict[str, object] = {"planner": row.planner, "queries": row.part, "scored": row.scored, "asked": row.asked}
        measures = {"prompt": row.prompt, "model": row.selection, "among_five": row.among_five, "arguments": row.arguments}
        for name, estimate in (measures | dict(row.by_argument)).items():
            values = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
            told |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
        found.append(told | {"seconds": row.seconds})
    columns = list(dict.fromkeys(name for told in found for name in told))
    return [{name: told.get(name) for name in columns} for told in found]


@command.command(name="evalmi")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with the authors' three files of EvalMi-50K.")
@click.option(
    "--predictions",
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV with the columns image, score (and question): a judge to be measured. Give it again for each further judge.",
)
@click.option(
    "--dimension",
    type=click.Choice(["perception", "correspondence", "accuracy"]),
    default="perception",
    show_default=True,
    help="What people rated.",
)
@click.option("--task", help="One of the tasks, such as counting; default: all.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for plots (SVG) and, of judges, the table (CSV).")
def evalmi(data: Path, predictions: tuple[Path, ...], dimension: str, task: str | None, out: Path | None) -> None:
    """EvalMi-50K: rank the 24 models as people do, or measure a judge against people.

    A judge's scores are correlated with perception or correspondence. With --dimension accuracy its scores are probabilities of yes,
    and questions after the first are told by their number in a column question. A file without a column score, such as the table of
    `vernissage score`, is one judge for every column of numbers.

    \b
    vernissage bench evalmi --data evalmi-50k --dimension perception --out plots
    vernissage bench evalmi --data evalmi-50k --predictions scores.csv
    """  # noqa: D301  click wants the character itself
    from vernissage.bench.evalmi import human_leaderboard
    from vernissage.cli.show import check_folder
    from vernissage.datasets.evalmi import TASKS, load_evalmi

    if task is not None and task not in TASKS:
        raise UnknownName("task of EvalMi-50K", task, TASKS)
    if out:
        check_folder(out)
    table = load_evalmi(data)
    if not predictions:
        places = human_leaderboard(table, dimension, task)
        click.echo(f"people's {dimension}, {task or 'all tasks'}: mean [95 % interval], ranks in 95 % of bootstrap samples")
        for place in places:
            value, low, high, n = place.estimate
            ranks = f"{place.rank_low}-{place.rank_high}"
            click.echo(f"{place.rank:>3}  {place.model:<22} {value:7.3f} [{low:.3f}, {high:.3f}]  ranks {ranks:<6} n = {n}")
        if out:
            for path in _plot_people(table, dimension, task, out):
                click.echo(named(path))
        return
    if dimension == "accuracy":
        _measure_answers(table, predictions, task, out)
    else:
        _measure_judges(table, predictions, dimension, task, out)


def _named_apart(found: "Mapping[Path, Mapping[str, ndarray]]") -> "dict[str, ndarray]":
    """What each file's judges say, by the judge's name; with the file's path where several have it."""
    every = [name for own in found.values() for name in own]
    return {
        name if every.count(name) == 1 else str(path) if len(own) == 1 else f"{path} {name}": values
        for path, own in found.items()
        for name, values in own.items()
    }


def _measure_judges(table: "EvalMi", predictions: Sequence[Path], dimension: str, task: str | None, out: Path | None) -> None:
    """One judge task by task, several one below the other, best first."""
    from vernissage.bench.evalmi import judge_table, read_predictions
    from vernissage.bench.plots import bars
    from vernissage.cli.show import progress_bar, show_table
    from vernissage.metrics.interval import decimals

    scores = _named_apart({path: read_predictions(path, table) for path in predictions})
    with progress_bar("measuring") as progress:
        rows = {}
        for name, own in scores.items():
            progress(len(rows), len(scores))
            rows[name] = judge_table(table, own, dimension)
    click.echo(f"people's {dimension}: correlation [95 % interval over prompts]; fitted: after a four-parameter logistic")
    shown = [(name, row) for name, own in rows.items() for row in own if row.task == (task or "all")]
    shown.sort(key=lambda pair: -(pair[1].srcc.value if pair[1].srcc else -2))
    if len(scores) == 1:
        shown = [(row.task, row) for row in next(iter(rows.values())) if task in (None, row.task)]
    cells = [
        [label, decimals(row.srcc), decimals(row.plcc), _three(row.plcc_fitted), _three(row.krcc), f"{row.n}/{row.asked}"]
        for label, row in shown
    ]
    show_table(["judge" if len(scores) > 1 else "task", "SRCC", "PLCC", "fitted", "KRCC", "scored/asked"], cells)
    for name, own in scores.items() if task is None else ():
        _show_ranking(table, own, dimension, who=f"{harmless(name)}, " if len(scores) > 1 else "")
    if out is None:
        return
    told = [
        {"judge": name, "task": row.task, **ends("srcc", row.srcc), **ends("plcc", row.plcc)}
        | {"plcc_fitted": row.plcc_fitted, "krcc": row.krcc, "scored": row.n, "asked": row.asked}
        for name, own in rows.items()
        for row in own
    ]
    write_table(out / f"{dimension}-judges.csv", told)
    click.echo(named(out / f"{dimension}-judges.csv"))
    if drawn := {name: row.srcc for name, row in shown if row.srcc is not None}:
        path = out / f"{dimension}-judges.svg"
        write_whole(path, bars(drawn, f"SRCC with people's {dimension}", digits=3))
        click.echo(named(path))


def _show_ranking(table: "EvalMi", scores: "ndarray", dimension: str, who: str = "") -> None:
    from vernissage.bench.evalmi import model_ranking

    try:
        found = model_ranking(table, scores, dimension)
        srcc = "-" if found.srcc is None else f"{found.srcc:.3f}"
        told = f"SRCC {srcc}, relative RMSE {found.relative_rmse:.3f}"
    except BadInput as error:
        told = f"- ({error.message})"
    click.echo(f"{who}ranking of the {len(table.models)} models: {told}")


def _measure_answers(table: "EvalMi", predictions: Sequence[Path], task: str | None, out: Path | None) -> None:
    import numpy as np

    from vernissage.bench.evalmi import accuracy_table, read_answers

    told: list[dict[str, object]] = []
    found = {path: {path.stem: read_answers(path, table)} for path in predictions}
    for path, (judge, answers) in zip(found, _named_apart(found).items(), strict=True):
        click.echo(f"{named(path)} against people's answers; share of those alike [95 % interval over prompts]")
        for row in accuracy_table(table, answers):
            told.append({"judge": judge, "task": row.task, **ends("accuracy", row.accuracy), "answered": row.n, "asked": row.asked})
            if task in (None, row.task):
                click.echo(f"{row.task:<22} {row.accuracy or '-'!s:<20} {row.n}/{row.asked} answered")
        if task is None:
            _show_ranking(table, np.where(np.isnan(answers[..., 0]), np.nan, answers[..., 0] > 0.5), "accuracy")
    if out is not None:
        write_table(out / "accuracy-judges.csv", told)
        click.echo(named(out / "accuracy-judges.csv"))


def ends(name: str, estimate: "Estimate | None") -> dict[str, object]:
    """A value with its interval as columns of a table."""
    return {name: estimate and estimate.value, f"{name}_low": estimate and estimate.low, f"{name}_high": estimate and estimate.high}


def _plot_people(table: "EvalMi", dimension: str, task: str | None, folder: Path) -> list[Path]:
    import numpy as np

    from vernissage.bench.evalmi import human_leaderboard
    from vernissage.bench.plots import bars, radar
    from vernissage.datasets.evalmi import TASKS

    places = human_leaderboard(table, dimension, task)
    digits = 3 if dimension == "accuracy" else 1
    best = {place.model: table.models.index(place.model) for place in places[:6]}
    lines = {
        model: [float(np.nanmean(table.opinions[dimension][index, table.rows(task)])) for task in TASKS] for model, index in best.items()
    }
    drawn = {
        "bars": bars({place.model: place.estimate for place in places}, f"people's {dimension}, {task or 'all tasks'}", digits=digits),
        "radar": radar(lines, TASKS, f"people's {dimension} by task, the six models ranked first"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, svg in drawn.items():
        paths.append(folder / f"{dimension}{f'-{task}' if task else ''}-{name}.svg")
        write_whole(paths[-1], svg)
    return paths


@command.command(name="style-diverse")
@click.option("--model", required=True, help="The model that paints the references.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("references/style-diverse"), show_default=True, help="Folder.")
@click.option(
    "--ingredients", type=click.Path(path_type=Path), help="TOML with two lists, captions and styles; default: 20 and 10 of ours."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@config_option
def style_diverse(model: str, out: Path, ingredients: Path | None, seed: int, config: Path | None) -> None:
    """Paint a style-diverse set of references: captions crossed with styles, as `<style>_<n>.png`."""
    from vernissage.cli.show import progress_bar
    from vernissage.cli.studio import open_studio
    from vernissage.datasets.style_diverse import OURS, build_style_diverse, load_ingredients
    from vernissage.painting.road import Overrides, override
    from vernissage.records.plan import Plan

    chosen = load_ingredients(ingredients or OURS)
    studio = open_studio(config)
    plan = override(Plan(prompt="x", model=model), Overrides(), studio.all_models)
    with progress_bar("painting references") as progress:
        card = studio.all_models.digest(model)
        failed = build_style_diverse(out, chosen, plan, studio.mllm, studio.t2i, card=card, seed=seed, progress=progress)
    for row in failed:
        click.echo(f"not painted: {row.name}: {harmless(row.reason)}", err=True)
    click.echo(f"{out}: {len(chosen.captions) * len(chosen.styles) - len(failed)} references, {len(failed)} failed")
    if failed:
        sys.exit(1)


def _choose(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    if not wanted:
        raise BadInput("No model was named.", hint="Name some with --models, with commas between.")
    chosen = []
    for name in wanted:
        found = [model for model in known if model.startswith(name[:-1])] if name.endswith("*") else [name]
        chosen += found or [name]
    return list(dict.fromkeys(chosen))


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _show_table(items: "Sequence[Item]") -> None:
    from vernissage.bench.repaint import heading, leaderboard, score_names
    from vernissage.cli.show import show_table

    names, kinds = score_names(items), sorted({item.kind for item in items if item.kind})
    last, best = (leaderboard(items, which) for which in ("last", "best"))
    boards = [(None, "last round, as in the paper", last), (None, "best of all rounds", best)]
    if last == best:
        boards = [(None, "last round, as in the paper, which is the best of all rounds", last)]
    references = {kind: len({item.reference for item in items if item.kind == kind}) for kind in kinds if len(kinds) > 1}
    few = [kind for kind, count in references.items() if count < _FEW]
    boards += [(kind, f"last round, {kind}", leaderboard(items, "last", kind=kind)) for kind in references if kind not in few]
    for kind, title, board in boards:
        rows = []
        for model, cells in board.items():
            own = [item.regeneration is not None for item in items if item.model == model and kind in (None, item.kind)]
            rows.append([model, f"{sum(own)}/{len(own)}", *(cells[name] for name in names)])
        show_table(
            ["model", "repainted", *map(heading, names)],
            rows,
            title=f"{title}: mean in % [95 % interval]  scored/asked",
            kept="report.html",
        )
    if few:
        remark(f"Of {', '.join(few)} there are fewer than {_FEW} references; their tables are in report.html.")
    for item in items:
        if item.regeneration is None:
            click.echo(f"unscored: {item.model} {harmless(item.reference)}: {harmless(item.unscored)}", err=True)


@command.command(name="metrics")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="JSONL of judged pictures, see docs/judge.md; or EvalMi-50K's folder."
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of EvalMi-50K's pictures, MODEL/001.png and so on, as the authors name them."
)
@click.option("--metrics", "names", default="clipscore,judge-perception,judge-correspondence", show_default=True, help="See score --list.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/metrics"), show_default=True, help="Folder of the run.")
@config_option
def metrics(data: Path, images: Path | None, names: str, out: Path, config: Path | None) -> None:
    """Which metric agrees with people? Score judged pictures and correlate the scores with the opinions.

    Of metrics where lower is better the sign is turned. The table is kept as agreement.csv, the scores as scores.csv.

    \b
    vernissage bench metrics --data ratings.jsonl --metrics clipscore,vqascore
    vernissage bench metrics --data evalmi-50k --images in --metrics clipscore
    """  # noqa: D301  click wants the character itself
    from vernissage.bench.metrics import agreements, entries_of
    from vernissage.bench.plots import bars
    from vernissage.cli.score import table_of
    from vernissage.cli.show import check_folder, names_of, progress_bar, show_table
    from vernissage.cli.studio import open_studio
    from vernissage.datasets.judged import load_judged
    from vernissage.metrics.interval import decimals
    from vernissage.scoring.registry import find_metrics

    chosen = find_metrics(names_of(names))
    if not chosen or any(metric.of_set for metric in chosen):
        raise BadInput("Agreement is measured picture by picture.", hint="Name metrics of single pictures; see score --list.")
    check_folder(out)
    if images and not data.is_dir():
        raise BadInput("--images belongs to EvalMi-50K, whose folder --data would be.", hint="A JSONL file names its pictures itself.")
    rows = load_judged(data, images)
    with progress_bar("scoring") as progress:
        scored = open_studio(config).score(entries_of(rows), [m.name for m in chosen], cache=out / "cache", progress=progress)
    found = agreements(rows, scored)
    cells = [[r.metric, r.dimension, decimals(r.srcc), decimals(r.plcc), _three(r.krcc), f"{r.n}/{r.asked}"] for r in found]
    headings = ["metric", "dimension", "SRCC [95 % interval]", "PLCC [95 % interval]", "KRCC", "scored/asked"]
    show_table(headings, cells, kept=named(out / "agreement.csv"))
    told: list[dict[str, object]] = []
    for row in found:
        values = {**ends("srcc", row.srcc), **ends("plcc", row.plcc), "krcc": row.krcc, "scored": row.n, "asked": row.asked}
        told.append({"metric": row.metric, "dimension": row.dimension, **values})
    for name, table in (("agreement.csv", told), ("scores.csv", table_of(scored))):
        write_table(out / name, table)
        click.echo(named(out / name))
    for dimension in dict.fromkeys(row.dimension for row in found):
        drawn = {row.metric: row.srcc for row in found if row.dimension == dimension and row.srcc is not None}
        if drawn:
            path = out / f"{dimension}.svg"
            write_whole(path, bars(drawn, f"SRCC with people's {dimension}", digits=3))
            click.echo(named(path))
