"""`vernissage zoo`: the models that can be chosen."""

import re
from pathlib import Path
from typing import Any

import click

from vernissage.cli import config_option, harmless, remark
from vernissage.errors import BadInput, UnknownName
from vernissage.records.files import write_whole
from vernissage.zoo.card import Card, load_card, parse_card

_ADAPTERS = ("LORA", "LoCon", "DoRA")  # Civitai's kinds


@click.group(name="zoo")
def command() -> None:
    """List, show and add the models that can be chosen."""


@command.command(name="list")
@config_option
def list_models(config: Path | None) -> None:
    """List all models; those marked * are what this studio's planner chooses from."""
    from vernissage.cli.show import show_list
    from vernissage.cli.studio import open_studio

    studio = open_studio(config)
    width = max(len(model) for model in studio.all_models)
    rows = []
    for model, card in studio.all_models.items():
        mark, size = "*" if model in studio.catalogue.choosable else " ", f"{card.width}x{card.height}"
        rows.append((f"{mark} {model:<{width}}  {size:<9}", card.description))
    show_list(rows)
    click.echo("* what this studio's planner chooses from", err=True)


@command.command()
@click.argument("model")
@config_option
def show(model: str, config: Path | None) -> None:
    """Show the card of MODEL."""
    import tomli_w

    from vernissage.cli.studio import open_studio

    click.echo(tomli_w.dumps(open_studio(config).all_models[model].model_dump(mode="json", exclude_none=True)))


@command.command()
@click.argument("source")
@click.option("--id", "model", help="The model's name in plans; default: made from SOURCE.")
@click.option("--base", help="For a LoRA: the model it belongs to, by its id.")
@click.option("--title", help="A title for people.")
@click.option("--description", help="What it is good at; planners read this.")
@click.option("--licence", default="unknown", show_default=True, help="SPDX name.")
@click.option("--config-folder", help="For a single file: folder or hub id with the pipeline's configuration.")
@click.option("--civitai-address", default="", hidden=True)
def add(
    source: str,
    model: str | None,
    base: str | None,
    title: str | None,
    description: str | None,
    licence: str,
    config_folder: str | None,
    civitai_address: str,
) -> None:
    """Add a model from SOURCE, so that it can be chosen at once.

    \b
    SOURCE is one of
      a local diffusers folder      models/my-pipeline
      a local safetensors file      checkpoint or LoRA (a LoRA needs --base)
      a hub id                      stabilityai/sdxl-turbo
                                    (hub:owner/name where a folder is called so)
      a Civitai model version       civitai:128713 (checked by hash, resumable)
    """  # noqa: D301  click wants the character itself
    from vernissage.zoo.catalogue import Catalogue, home, load_catalogue

    catalogue = load_catalogue()
    if base is not None and base not in catalogue:
        raise UnknownName("model", base, catalogue)
    values: dict[str, Any] = {"licence": licence}
    if re.fullmatch(r"civitai:\d+", source):
        values |= _from_civitai(int(source.split(":")[1]), base, civitai_address)
    elif Path(source).exists() or source.endswith((".safetensors", ".ckpt", ".pt", ".bin")):
        values |= _from_path(Path(source), base)
    elif re.fullmatch(r"(hub:)?[\w.-]+/[\w.-]+", source):
        if not source.startswith("hub:") and Path(source).parent.is_dir():
            raise BadInput(f"There is no {source}.", hint=f"Correct the path, or write hub:{source} if a model of the hub is meant.")
        source = source.removeprefix("hub:")
        values |= {"id": source, "title": source, "description": f"{source} from the hub.", "source": {"repo": source}}
        values |= {"width": 1024, "height": 1024, "defaults": {"steps": 28, "cfg_scale": 5.0}}
    else:
        raise BadInput(f"There is nothing at {source!r}.", hint="Give a file, a folder, a hub id (owner/name) or civitai:VERSION.")
    if base is not None and "base" in values["source"]:
        card = catalogue[base]
        values |= {"width": card.width, "height": card.height, "size_multiple": card.size_multiple}
        values |= {"samplers": list(card.samplers), "defaults": card.defaults.model_dump(exclude_none=True, exclude={"loras"})}
        values |= {name: getattr(card, name).model_dump() for name in ("sizes", "steps", "cfg_scale")}
    given = {"id": model, "title": title, "description": description}
    values |= {name: value for name, value in given.items() if value}
    if config_folder:
        values["source"]["config"] = str(Path(config_folder).resolve()) if Path(config_folder).is_dir() else config_folder
    card = parse_card(values, folder=home() / "cards", name="to be added")
    if card.id in catalogue and (not model or card.id.startswith("mini/")):
        raise BadInput(f"There is a model {card.id!r} already.", hint="Give it another name with --id.")
    Catalogue([*(known for known in catalogue.values() if known.id != card.id), card])  # refuses one that builds on itself
    path = home() / "cards" / f"{card.id.replace('/', '--')}.toml"
    _write_card(path, card)
    click.echo(f"{card.id} is added: {path}")
    if not description and not source.startswith("civitai:"):
        remark("Planners choose by what a model is good at; say it with --description.")
    if "repo" in values["source"]:
        click.echo("It was taken for a model of the hub, and is downloaded when it paints for the first time.", err=True)


def _write_card(path: Path, card: Card) -> None:
    import tomli_w

    if path.exists() and load_card(path).id != card.id:
        raise BadInput(f"{path} is the card of another model.", hint="Choose another name with --id.")
    write_whole(path, tomli_w.dumps(card.model_dump(mode="json", exclude_none=True)), hint="Set $VERNISSAGE_HOME to another folder.")


def _from_path(path: Path, base: str | None) -> dict[str, Any]:
    from vernissage.zoo.card import local_id
    from vernissage.zoo.weights import inspect_weights

    path = path.resolve()
    found = inspect_weights(path)
    model = local_id(path.stem if path.is_file() else path.name)
    name = model.removeprefix("local/")
    values: dict[str, Any] = {"id": model, "title": name, "description": f"{found.family} {found.form} {name}.".strip()}
    if found.form == "lora":
        if base is None:
            raise BadInput(f"{path} is a LoRA and belongs to a model.", hint="Name that model with --base.")
        return values | {"source": {"base": base, "loras": [{"path": str(path)}]}}
    source: dict[str, Any] = {"path": str(path)}
    if found.form == "checkpoint":
        source["pipeline"] = found.pipeline
    guidance = 3.5 if found.family == "FLUX" else 7.0
    return values | {"source": source, "width": found.size, "height": found.size, "defaults": {"steps": 28, "cfg_scale": guidance}}


def _from_civitai(version_id: int, base: str | None, address: str) -> dict[str, Any]:
    from vernissage.cli.show import progress_bar
    from vernissage.zoo.catalogue import home
    from vernissage.zoo.civitai import ADDRESS, download, fetch_version

    address = address or ADDRESS
    version = fetch_version(version_id, address=address)
    if version.kind not in ("Checkpoint", *_ADAPTERS):
        raise BadInput(f"Civitai's version {version_id} is a {version.kind}.", hint="Only checkpoints and LoRAs can be added.")
    if version.kind in _ADAPTERS and base is None:
        raise BadInput(f"{version.title} is a LoRA and belongs to a model.", hint="Name that model with --base.")
    folder = home() / "weights" / str(version_id)  # many versions' files have one name
    with progress_bar(f"downloading {version.file.name}") as progress:
        path = download(version.file, folder, address=address, progress=progress)
    values = _from_path(path, base)
    if "path" in values["source"] and version.file.sha256:
        values["source"]["sha256"] = version.file.sha256.lower()
    return values | {
        "id": f"civitai/{version_id}",
        "title": version.title,
        "description": version.description or version.title,
        "homepage": f"https://civitai.com/models?modelVersionId={version_id}",
        "keywords": list(version.words),
    }


@command.command(name="import-judge")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--dimension", type=click.Choice(["perception", "correspondence", "answers"]), required=True, help="What the checkpoint is for."
)
@click.option("--tokenizer", help="Folder or hub id of the backbone's tokenizer in transformers format; default: SOURCE.")
@click.option("--wording", help="What it was asked in training, with {prompt}, or {question} for answers; default: LMM4LMM's.")
@click.option("--lead", help="How its answers begin, up to the level word; default: as LMM4LMM's do.")
@click.option("--low", type=float, default=0.0, show_default=True, help="Smallest score of its training set, for level words.")
@click.option("--high", type=float, default=100.0, show_default=True, help="Largest.")
@click.option("--resize", type=click.IntRange(1), default=1024, show_default=True, help="Width and height pictures are brought to first.")
def import_judge(source: Path, out: Path, **options: Any) -> None:
    """Turn a judge in the InternVLChat layout (LMM4LMM's published checkpoints) into one of ours, in the folder OUT.

    None of the checkpoint's code is run. Name OUT as the judge of a vernissage.toml afterwards.
    """
    from vernissage.cli.show import check_folder
    from vernissage.wiring import import_local

    check_folder(out)
    spec = import_local("vernissage.judging.nn.internvl_chat").import_judge(source, out, **options)
    click.echo(harmless(f"{out}: {spec.name}, {'scores ' + ', '.join(spec.heads) if spec.heads else 'answers questions'}"))
