"""`vernissage read`: the plan that a picture file carries, ours or another tool's."""

from pathlib import Path

import click

from vernissage.cli import harmless
from vernissage.errors import BadInput


@click.command(name="read")
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(picture: Path, as_json: bool) -> None:
    """Show how PICTURE was made.

    Reads pictures painted here and by A1111, Forge, Civitai (PNG, JPEG, WebP) and, as far as possible, ComfyUI.
    """
    import json

    from vernissage.records.parameters import write_parameters
    from vernissage.records.picture import Picture, provenance_json, read_plan

    found = Picture.open(picture)
    parameters = read_plan(found.data)
    if parameters is None:
        raise BadInput(f"{picture} carries no plan.", hint="Pictures lose it when they are edited or sent through most messengers.")
    if as_json:
        record = {
            "plan": parameters.plan.model_dump(mode="json"),
            "extra": parameters.extra,
            "vernissage": found.provenance.model_dump(mode="json") if found.provenance else None,
        }
        click.echo(json.dumps(record, indent=2))
        return
    click.echo(harmless(write_parameters(parameters.plan, extra=parameters.extra)))
    if found.provenance:
        click.echo("\n" + provenance_json(found))
