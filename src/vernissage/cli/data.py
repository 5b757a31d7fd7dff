"""`vernissage data`: sets to train and measure with."""

import hashlib
import sys
from collections import Counter
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import click

from vernissage.cli import FiniteRange, config_option, harmless, named, remark
from vernissage.errors import BadInput
from vernissage.processes import work_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vernissage.datasets.queries import Query
    from vernissage.ports import TextEncoder


@click.group(name="data")
def command() -> None:
    """Collect, filter, role-play, deduplicate and split what planners learn from (ChatGenBench); opinions from ratings."""


@command.command(name="collect")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demonstrations.jsonl"), show_default=True, help="JSONL file.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures that carry their parameters; default: Civitai.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Demonstrations to have in the end, from Civitai.")
@click.option("--sort", type=click.Choice(["Most Reactions", "Most Comments", "Newest"]), default="Most Reactions", show_default=True)
@click.option("--period", type=click.Choice(["AllTime", "Year", "Month", "Week", "Day"]), default="AllTime", show_default=True)
@click.option("--nsfw", is_flag=True, help="Take pictures that are not safe for work as well.")
@click.option("--address", default="https://civitai.com/api/v1", hidden=True)
def collect(out: Path, pictures: Path | None, count: int, address: str, **options: Any) -> None:
    """Collect demonstrations (prompt, model, arguments) from Civitai, or from pictures.

    Civitai's token, where one is needed, is taken from $CIVITAI_TOKEN.

    \b
    vernissage data collect --count 5000 --out demonstrations.jsonl
    vernissage data collect --pictures outputs/
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.datasets.collect import collect_civitai, collect_pictures

    _check_out(out)
    with progress_bar("collecting") as progress:
        if pictures:
            found = collect_pictures(pictures, out, progress=progress)
            if not found.kept and not found.dropped:
                raise BadInput(f"There are no pictures below {pictures}.", hint="Give the folder of your pictures.")
        else:
            found = collect_civitai(out, count=count, address=address, progress=progress, **options)
    _report(found.kept, "demonstrations", found.dropped, out)


@command.command(name="fetch")
@click.argument("demonstrations", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("fetched.jsonl"), show_default=True, help="JSONL file.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder for the pictures; default: `pictures` beside --out.")
@click.option("--models", type=click.Path(path_type=Path), help="JSONL file of what models are; default: `models.jsonl` beside --out.")
@click.option("--address", default="https://civitai.com/api/v1", hidden=True)
def fetch(demonstrations: Path, out: Path, pictures: Path | None, models: Path | None, address: str) -> None:
    """Fetch the pictures of DEMONSTRATIONS, and what Civitai says of their models; goes on where it was cut off.

    With pictures at hand duplicates are found by their look, and requests can be made with a reference picture. What models are,
    and how often they were downloaded, serves `data filter` and `data role-play`.

    \b
    vernissage data fetch demonstrations.jsonl --out fetched.jsonl
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import check_folder, progress_bar
    from vernissage.datasets.collect import read_demonstrations, write_demonstrations
    from vernissage.datasets.fetch import fetch_models, fetch_pictures

    _check_out(out)
    _check_apart(demonstrations, out)
    pictures, models = pictures or out.parent / "pictures", models or out.parent / "models.jsonl"
    check_folder(pictures)
    found = read_demonstrations(demonstrations)
    with work_at(out), work_at(models):
        with progress_bar("fetching models") as progress:
            notes, unknown = fetch_models([each.plan.model for each in found], models, address=address, progress=progress)
        with progress_bar("fetching pictures") as progress:
            got = fetch_pictures(found, pictures, progress=progress)
        write_demonstrations(got.demonstrations, out)
        gone = sum(note.gone for note in notes.values())
        click.echo(f"{len(notes)} models in {named(models)}" + (f", {gone} of them no longer on Civitai" if gone else ""))
        for reason, count in unknown.items():
            click.echo(harmless(f"  {count} x {reason}"))
        _report(got.fetched, f"pictures in {named(pictures)}", got.failed, out)


def _report(kept: int, what: str, dropped: "Mapping[str, int]", out: Path) -> None:
    """What stays, what went and why, and where it lies; with nothing left the command has failed."""
    click.echo(f"{kept} {what}")
    if dropped:
        click.echo(f"{sum(dropped.values())} not taken:")
        for reason, count in sorted(dropped.items(), key=lambda pair: -pair[1]):
            click.echo(harmless(f"  {count} x {reason}"))
    if out.exists():
        click.echo(named(out))
    if not kept:
        sys.exit(1)


def _check_apart(source: Path, *outs: Path) -> None:
    """Refuse to write over what is read."""
    if any(source.resolve() == out.resolve() for out in outs):
        raise BadInput(f"{source} would be written over by what is made of it.", hint="Choose another --out.")


def _check_out(out: Path) -> None:
    from vernissage.cli.show import check_folder

    check_folder(out.parent)
    if out.is_dir():
        raise BadInput(f"{out} is a folder.", hint="Name a file with --out.")


@command.command(name="filter")
@click.argument("demonstrations", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("filtered.jsonl"), show_default=True, help="JSONL file.")
@click.option("--least", type=click.IntRange(1), default=3, show_default=True, help="Demonstrations that a model must have.")
@click.option("--outdated", default="none", show_default=True, help='Base models to leave out, with commas between, like "SD 1.4,SD 2.0".')
@click.option("--nsfw", is_flag=True, help="Keep what is not safe for work.")
@click.option("--models", type=click.Path(path_type=Path), help="What models are, as `data fetch` wrote it: those that are gone go.")
@click.option("--downloads", type=click.IntRange(0), default=0, help="Downloads that a model must have, as --models tells them.")
def filter_(demonstrations: Path, out: Path, least: int, outdated: str, nsfw: bool, models: Path | None, downloads: int) -> None:
    """Drop demonstrations of outdated or rare models, duplicates, and what is not safe for work."""
    from vernissage.cli.show import names_of, progress_bar
    from vernissage.datasets.collect import read_demonstrations, write_demonstrations
    from vernissage.datasets.fetch import read_models
    from vernissage.datasets.filtering import filter_demonstrations

    _check_out(out)
    _check_apart(demonstrations, out)
    if downloads and models is None:
        raise BadInput("--downloads needs to know how often models were downloaded.", hint="Give --models, which `data fetch` writes.")
    notes = read_models(models) if models else {}
    inactive = {name for name, note in notes.items() if note.gone or note.downloads < downloads}
    found = read_demonstrations(demonstrations)
    given: dict[str, Any] = {"least": least, "outdated": names_of(outdated), "inactive": inactive, "nsfw": nsfw}
    with progress_bar("filtering") as progress:
        filtered = filter_demonstrations(found, **given, progress=progress)
    write_demonstrations(filtered.kept, out)
    _report(len(filtered.kept), "demonstrations", filtered.dropped, out)


@command.command(name="role-play")
@click.argument("demonstrations", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("queries.jsonl"), show_default=True, help="JSONL file.")
@click.option("--each", type=click.IntRange(1), default=5, show_default=True, help="Requests made of a demonstration, by different roles.")
@click.option("--roles", type=click.Path(path_type=Path), help="TOML with a list `roles`; default: 120 of ours.")
@click.option("--models", type=click.Path(path_type=Path), help="What models are, as `data fetch` wrote it; default: what their cards say.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A vernissage.toml; give several to have several MLLMs play.",
)
@click.option("--input-price", type=FiniteRange(0), default=0.0, help="For a million tokens, for the estimate of the cost.")
@click.option("--output-price", type=FiniteRange(0), default=0.0, help="For a million tokens, for the estimate of the cost.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--yes", is_flag=True, help="Begin without asking.")
def role_play_(
    demonstrations: Path,
    out: Path,
    each: int,
    roles: Path | None,
    models: Path | None,
    configs: tuple[Path, ...],
    input_price: float,
    output_price: float,
    seed: int,
    yes: bool,
) -> None:
    """Let language models play everyday people who ask for what the demonstrations show; goes on where it was cut off.

    \b
    vernissage data role-play filtered.jsonl --config gpt.toml --config qwen.toml
    vernissage data role-play filtered.jsonl --input-price 0.15 --output-price 0.6
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import progress_bar
    from vernissage.cli.studio import open_studio
    from vernissage.datasets.collect import read_demonstrations
    from vernissage.datasets.fetch import read_models
    from vernissage.datasets.queries import resume_queries
    from vernissage.datasets.role_play import ROLES, estimate, keep_settings, load_roles, plan_tasks, role_play

    _check_out(out)
    _check_apart(demonstrations, out)
    found = read_demonstrations(demonstrations)
    chosen = load_roles(roles or ROLES)
    studios = {str(config or "default"): open_studio(config) for config in (configs or (None,))}
    descriptions = {model: card.description for model, card in next(iter(studios.values())).all_models.items()}
    for model, note in (read_models(models) if models else {}).items():
        if told := ". ".join(filter(None, (note.title, note.description))):
            descriptions[model] = shorten(told, 1000, placeholder=" …")
    tasks = plan_tasks(found, list(studios), chosen, each=each, seed=seed)
    with work_at(out):  # before what was cut off in it is mended
        known, settings = resume_queries(out), {"seed": seed, "roles": hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:16]}
        if out.exists():
            keep_settings(out, settings)
        expected = estimate([task for task in tasks if task.id not in known], descriptions)
        words = f"{expected.calls} requests, about {expected.input_tokens} tokens in and {expected.output_tokens} out"
        cost = expected.cost(input_price, output_price)
        click.echo(words + (f", about {cost:.2f} in the currency of the prices" if cost else ""), err=True)
        if any(studio.mllm.brief for studio in studios.values()):
            remark("a mini language model plays poorly; use a large one.")
        if not yes and not click.confirm("Begin?", err=True):
            raise SystemExit(1)
        keep_settings(out, settings)
        with progress_bar("playing") as progress:
            made = role_play(
                tasks, {name: studio.mllm for name, studio in studios.items()}, out, descriptions=descriptions, progress=progress
            )
        _report(made.kept, "queries", made.dropped, out)


@command.command(name="deduplicate")
@click.argument("queries", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("distinct.jsonl"), show_default=True, help=".jsonl, .json, .parquet."
)
@click.option(
    "--threshold", type=FiniteRange(0, 1), default=0.8, show_default=True, help="Rescaled BERTScore above which queries are duplicates."
)
@config_option
def deduplicate(queries: Path, out: Path, threshold: float, config: Path | None) -> None:
    """Drop queries that say nearly the same as an earlier one."""
    from vernissage.cli.show import progress_bar
    from vernissage.datasets.near_duplicates import FEWEST, drop_near_duplicates, sampled_zero
    from vernissage.datasets.queries import check_ending, read_queries, write_queries

    _check_out(out)
    _check_apart(queries, out)
    check_ending(out)
    found = read_queries(queries)
    texts = ["\n".join(turn.text for turn in query.chat.turns if turn.role == "user") for query in found]
    encoder = _text_encoder(config)
    zero = sampled_zero(texts, encoder)
    if zero is None:
        told = f"With fewer than {FEWEST} different texts nothing tells what unrelated ones score: only equal ones are dropped."
        remark(told)
    kept: list[int] = []
    # The same words about different pictures ask for different things.
    with progress_bar("comparing") as progress:
        for rows in _by_pictures(found):
            own = drop_near_duplicates([texts[row] for row in rows], encoder, threshold=threshold, zero=zero, progress=progress)
            kept += [rows[place] for place in own]
    kept.sort()
    write_queries([found[row] for row in kept], out)
    reason = f"{'' if zero is None else 'nearly '}the same as an earlier one"
    _report(len(kept), "queries", {reason: len(found) - len(kept)} if len(kept) < len(found) else {}, out)


def _by_pictures(queries: "Sequence[Query]") -> list[list[int]]:
    """Places of the queries that have the same pictures, those without any first."""
    groups: dict[tuple[str, ...], list[int]] = {(): []}
    for row, query in enumerate(queries):
        files = query.chat.images
        digests = tuple(hashlib.sha256(image.read_bytes()).hexdigest() if image.is_file() else str(image) for image in files)
        groups.setdefault(digests, []).append(row)
    return list(groups.values())


@command.command(name="split")
@click.argument("queries", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("."), help="Folder for train.jsonl, test.jsonl, review.csv.")
@click.option("--share", type=FiniteRange(0, 0.9), default=0.2, show_default=True, help="Of each model's queries, for the test.")
@click.option(
    "--few", type=click.IntRange(0), default=10, show_default=True, help="Training queries up to which a model counts as few-shot."
)
@click.option("--ask", is_flag=True, help="Let the MLLM judge whether test queries read like people's.")
@click.option("--spacy", metavar="PIPELINE", help="Tell people's words by the parts of speech of a spaCy pipeline, e.g. en_core_web_sm.")
@click.option(
    "--review", type=click.Path(path_type=Path), help="The review.csv of an earlier call with people's decisions: drop what they refuse."
)
@config_option
def split_(
    queries: Path, out: Path, share: float, few: int, ask: bool, spacy: str | None, review: Path | None, config: Path | None
) -> None:
    """Split queries into training and test set, the test set into supervised and few-shot.

    The most distinct queries of each model are tested, if they read like people's. Look through review.csv, write no into the column
    `keep` of what should go, and call again with --review.
    """
    from vernissage.cli.show import check_folder, progress_bar
    from vernissage.cli.studio import open_studio
    from vernissage.datasets.queries import divide, read_queries, write_queries
    from vernissage.datasets.splitting import read_review, split_queries, write_review
    from vernissage.wiring import DriverConfig, load_driver

    check_folder(out)
    _check_apart(queries, *(out / name for name in ("train.jsonl", "test.jsonl")))
    found = read_queries(queries)
    decisions = read_review(review) if review else {}
    earlier = out / "review.csv"
    if review is None and earlier.is_file() and not all(read_review(earlier).values()):
        raise BadInput(f"{earlier} holds decisions.", hint=f"Pass it on with --review {earlier}, or choose another --out.")
    tagger = load_driver("tagger", DriverConfig.model_validate({"driver": "spacy", "pipeline": spacy})) if spacy else None
    with progress_bar("splitting") as progress:
        parts = split_queries(
            found,
            _text_encoder(config),
            share=share,
            mllm=open_studio(config).mllm if ask else None,
            tagger=tagger,
            progress=progress,
        )
    returned = dict(parts.returned)
    if refused := [query for query in parts.test if not decisions.get(query.id, True)]:
        returned["refused in the review"] = len(refused)
    divided = divide(parts.test, parts.train, few=few)
    tested = [query for query in divided if decisions.get(query.id, True)]
    write_queries(parts.train, out / "train.jsonl")
    write_queries(tested, out / "test.jsonl")
    write_review(divided, out / "review.csv", decisions)
    if unknown := decisions.keys() - {query.id for query in divided}:
        told = f"{len(unknown)} decisions are of queries that are not among those to be tested, such as {min(unknown)!r}."
        remark(told)
    if parts.unjudged:
        remark(f"{parts.unjudged} queries could not be judged by the MLLM, and stay.")
    if not tested and not returned:
        most = max(Counter(query.plan.model for query in found).values(), default=0)
        small = f"{share:g} of {most} queries, the most that one model has, is less than "
        remark(f"{small}{'one' if share * most < 1 else 'one demonstration has'}. Raise --share, or make more queries.")
    rare = sum(query.division == "few-shot" for query in tested)
    _report(len(tested), f"test queries ({len(tested) - rare} supervised, {rare} few-shot), {len(parts.train)} for training", returned, out)


@command.command(name="convert")
@click.argument("queries", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help=".jsonl, .json or, in our own layout, .parquet.")
@click.option(
    "--layout",
    type=click.Choice(["ours", "conversations"]),
    default="conversations",
    show_default=True,
    help="Ours, or conversations whose last answer is the plan, as InternVL is trained and ChatGenBench is read.",
)
def convert(queries: Path, out: Path, layout: str) -> None:
    """Write QUERIES, of any layout that can be read, in another one.

    \b
    vernissage data convert chats/train.jsonl --out train.json
    vernissage data convert chatgenbench.json --layout ours --out pairs.parquet
    """  # noqa: D301  click wants the character itself
    from vernissage.datasets.queries import read_queries, write_conversations, write_queries

    _check_out(out)
    _check_apart(queries, out)
    found = read_queries(queries)
    (write_queries if layout == "ours" else write_conversations)(found, out)
    click.echo(f"{len(found)} queries")
    click.echo(named(out))


@command.command(name="mos")
@click.argument("ratings", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("mos.csv"),
    show_default=True,
    help="CSV or Parquet; or JSONL, a picture a line, as judges are trained on, by its ending.",
)
@click.option("--screen/--no-screen", default=True, show_default=True, help="Leave out subjects whom ITU-R BT.500 rejects.")
@click.option("--prompts", type=click.Path(path_type=Path), help="Of the pictures, for JSONL: a file as `judge` reads it.")
def mos(ratings: Path, out: Path, screen: bool, prompts: Path | None) -> None:
    """Turn RATINGS of people into mean opinion scores with 95 % intervals, by picture and dimension.

    RATINGS is a CSV or Parquet file with the columns subject, picture, dimension, rating. A dimension whose ratings are 0 and 1 alone is a
    yes/no question and gets the majority's answer.

    \b
    vernissage data mos ratings.csv
    vernissage data mos ratings.csv --out judged.jsonl --prompts prompts.csv
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.judge import read_prompts
    from vernissage.datasets.judged import write_judged
    from vernissage.judging.opinions import gather_opinions, judged_of
    from vernissage.judging.ratings import read_ratings
    from vernissage.judging.spec import DIMENSIONS
    from vernissage.records.table import check_table, write_table

    check_table(out, forms=(".csv", ".parquet", ".jsonl"))
    lines = out.suffix.lower() == ".jsonl"
    if prompts and not lines:
        raise BadInput(f"{out} has no place for prompts.", hint="Name a .jsonl file with --out, or leave out --prompts.")
    found = gather_opinions(read_ratings(ratings), screening=screen)
    if lines:
        pictures = list(dict.fromkeys(row.picture for each in found for row in each.rows))
        said = read_prompts(prompts, [ratings.parent / picture for picture in pictures]) if prompts else [None] * len(pictures)
        write_judged(out, judged_of(found, ratings.parent, dict(zip(pictures, said, strict=True))))
        if others := [each.dimension for each in found if not each.votes and each.dimension not in DIMENSIONS]:
            remark(f"Judges do not learn {', '.join(others)}, which is left out.")
    else:
        write_table(out, [row._asdict() for each in found for row in each.rows])
    for each in found:
        missing, left = sum(bool(row.why) for row in each.rows), each.subjects - len(each.rejected)
        kind = "votes on" if each.votes else "opinions of"
        who = f"{left} of {each.subjects} subjects" if each.rejected else f"{each.subjects} subjects"
        click.echo(harmless(f"{each.dimension}: {kind} {len(each.rows) - missing} of {len(each.rows)} pictures by {who}"))
        for name, value in (("Krippendorff's alpha", each.alpha), ("ICC(2,k)", each.icc)):
            click.echo(f"  {name}: {f'{value:.3f}' if isinstance(value, float) else f'- ({value})'}")
        for row in each.rejected:
            click.echo(harmless(f"  left out: {row.subject}: {row.reason}"))
        for subject, correlation in each.odd.items():
            click.echo(harmless(f"  counted, but hardly in line with the others: {subject}: rank correlation {correlation:.2f}"))
    click.echo(named(out))


def _text_encoder(config: Path | None) -> "TextEncoder":
    from vernissage.cli.studio import open_studio

    encoder = open_studio(config).text_encoder
    if encoder is None:
        raise BadInput("Comparing texts needs a text encoder.", hint="Configure `text_encoder`.")
    return encoder
