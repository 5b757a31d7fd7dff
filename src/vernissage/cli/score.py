"""`vernissage score`: a folder of pictures, many metrics, one table."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import config_option, harmless, named, remark
from vernissage.errors import BadInput
from vernissage.records.files import write_whole
from vernissage.records.plan import whole_characters
from vernissage.records.table import write_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vernissage.api import Studio
    from vernissage.metrics.interval import Estimate
    from vernissage.records.verdict import Score, Unscored
    from vernissage.scoring.score import Scored
    from vernissage.wiring import DriverConfig


@click.command(name="score")
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option("--metrics", default="clipscore", show_default=True, help="Names with commas between; see --list.")
@click.option("--reference", type=click.Path(path_type=Path), help="Folder of reference pictures, or an .npz of FID statistics.")
@click.option("--prompts", type=click.Path(path_type=Path), help="CSV or JSONL with image and prompt, a JSON list, or a prompt a line.")
@click.option("--questions", type=click.Path(path_type=Path), help="TIFA's JSON, DSG's CSV, or JSONL of prompt and questions.")
@click.option("--texts", type=click.Path(path_type=Path), help="CSV with text and reference: compare texts by BERTScore, no pictures.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/score"), show_default=True, help="Folder for tables.")
@click.option("--table", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True, help="Form of the table of pictures.")
@click.option("--list", "listed", is_flag=True, help="Show all metrics and what they need.")
@config_option
def command(
    source: Path | None,
    metrics: str,
    reference: Path | None,
    prompts: Path | None,
    questions: Path | None,
    texts: Path | None,
    out: Path,
    table: str,
    listed: bool,
    config: Path | None,
) -> None:
    """Score the pictures of SOURCE with many metrics at once.

    SOURCE is a folder in GenEval's, HPSv2's or T2I-CompBench's layout or any other, a CSV or JSONL table, or a dataset of Hugging Face's
    `datasets`: a Parquet file, a folder of them, or what save_to_disk wrote.

    Pictures are decoded once and encoded once by each encoder, however many metrics there are; what was encoded before is not
    encoded again. A picture that cannot be scored is left empty, with the reason, and counted.

    \b
    vernissage score pictures/ --metrics clipscore,vqascore --prompts prompts.txt
    vernissage score pictures/ --metrics dinov2,clip-fid --reference originals/
    vernissage score --texts pairs.csv
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import check_folder, mini_note, names_of, progress_bar, show_list
    from vernissage.cli.studio import open_studio
    from vernissage.scoring.registry import METRICS

    if listed:
        needs = {metric.name: ", ".join(sorted(metric.needs)) for metric in METRICS.values()}
        show_list([(m.name, f"{m.about}; {m.range}, {m.direction} is better; needs {needs[m.name]}") for m in METRICS.values()])
        return
    if texts is not None:
        if source is not None:
            raise BadInput("Either pictures or texts are scored.", hint="Leave out SOURCE or --texts.")
        _score_texts(texts, out, table, config)
        return
    if source is None:
        raise BadInput("There is nothing to score.", hint="Name a folder of pictures, or see --list.")
    chosen = names_of(metrics)
    if not chosen:
        raise BadInput("No metric is named.", hint="See --list for their names.")
    check_folder(out)
    studio = open_studio(config)
    with progress_bar("scoring") as progress:
        given = {"reference": reference, "prompts": prompts, "questions": questions}
        scored = studio.score(source, chosen, **given, cache=out / "cache", progress=progress)
    sources = _sources(studio, chosen)
    by = {name: ", ".join(dict.fromkeys(_named(config) for config in own)) for name, own in sources.items()}
    told = [row | ({"by": by[str(row["metric"])]} if by[str(row["metric"])] else {}) for row in summary(scored)]
    _write(out, "scores", table, table_of(scored), told)
    if note := mini_note([config for own in sources.values() for config in own]):
        remark(note)


def _sources(studio: "Studio", metrics: tuple[str, ...]) -> "dict[str, list[DriverConfig]]":
    """Who encodes, answers or judges for each metric, as configured."""
    from vernissage.scoring.registry import find_metrics

    config = studio.config
    known = {name: getattr(config, name) for name in ("clip", "dinov2", "inception", "mllm", "detector")}
    known["judge"] = config.trained_judge or config.mllm
    asked = {
        metric.name: [*map(known.get, sorted(metric.needs)), config.scorers.get(metric.name), config.tagger if metric.reads_tags else None]
        for metric in find_metrics(metrics)
    }
    return {name: [part for part in parts if part is not None] for name, parts in asked.items()}


def _named(config: "DriverConfig") -> str:
    return f"{config.driver}:{config.options.get('model') or config.options.get('pipeline', '')}".rstrip(":")


def _score_texts(pairs: Path, out: Path, table: str, config: Path | None) -> None:
    import numpy as np

    from vernissage.cli.show import check_folder, progress_bar, who
    from vernissage.cli.studio import open_studio
    from vernissage.metrics.interval import mean_interval
    from vernissage.scoring.texts import Matched, read_pairs

    check_folder(out)
    given = read_pairs(pairs)
    with progress_bar("comparing") as progress:
        found = open_studio(config).score_texts([pair.text for pair in given], [pair.reference for pair in given], progress=progress)
    names = [f"bertscore-{name}" for name in ("precision", "recall", "f")]
    values = {name: [each.match[place] if isinstance(each, Matched) else None for each in found.scores] for place, name in enumerate(names)}
    if found.zero is not None:
        values |= {
            f"{name}-rescaled": [each.rescaled and each.rescaled[place] if isinstance(each, Matched) else None for each in found.scores]
            for place, name in enumerate(names)
        }
    rows: list[dict[str, object]] = []
    for index, pair in enumerate(found.pairs):
        said, reason = {name: own[index] for name, own in values.items()}, getattr(found.scores[index], "reason", "")
        rows.append({"text": whole_characters(pair.text), "reference": whole_characters(pair.reference), **said, "unscored": reason})
    told: list[dict[str, object]] = []
    reasons = dict(Counter(each.reason for each in found.scores if not isinstance(each, Matched)))
    for name, own in values.items():
        known = [value for value in own if value is not None]
        estimate = mean_interval(np.array(known)) if known else None
        told.append({"metric": name, "group": "", "scored": len(known), "asked": len(own), **_mean(estimate), "reasons": reasons})
    zero = "its published baseline" if found.published else "what these references score with one another"
    click.echo(f"by {who(found.encoder)}" + (f"; rescaled so that 0 is {zero}, F {found.zero.f:.3f}" if found.zero else ""))
    _write(out, "texts", table, rows, told)


def _write(out: Path, name: str, table: str, rows: "Sequence[Mapping[str, object]]", told: "Sequence[dict[str, object]]") -> None:
    """The table and its summary, in files and on the screen; ends the program where nothing was scored."""
    write_table(out / f"{name}.{table}", rows)
    (out / f"{name}.{'csv' if table == 'parquet' else 'parquet'}").unlink(missing_ok=True)  # of a run before this one
    write_whole(out / "summary.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    for row in told:
        click.echo(harmless(_line(row)))
    for file in (f"{name}.{table}", "summary.json"):
        click.echo(named(out / file))
    if not any(row["scored"] for row in told):
        sys.exit(1)


def table_of(scored: "Scored") -> list[dict[str, object]]:
    """A row a picture: what it should show, its scores, why one is missing, and why they are as they are."""
    rows: list[dict[str, object]] = []
    for index, entry in enumerate(scored.entries):
        found = {name: values[index] for name, values in scored.pictures.items()}
        reasons = [f"{name}: {score.reason}" for name, score in found.items() if not hasattr(score, "value")]
        if index in scored.unread:
            reasons = [scored.unread[index].reason]
        values = {name: getattr(score, "value", None) for name, score in found.items()}
        why = "; ".join(f"{name}: {score.reason}" for name, score in found.items() if hasattr(score, "value") and score.reason)
        told = {"unscored": "; ".join(reasons), "why": whole_characters(why)}
        said = whole_characters((scored.prompts[index] if scored.prompts else entry.prompt) or "")
        rows.append({"image": whole_characters(entry.name), "group": entry.group, "prompt": said, **values, **told})
    return rows


def summary(scored: "Scored") -> list[dict[str, object]]:
    """A row a metric, and where there are groups one for each and one for the mean of their means: mean, 95 % interval, counts, reasons."""
    import numpy as np

    from vernissage.metrics.interval import mean_interval, mean_of_means, share_interval
    from vernissage.scoring.registry import METRICS

    rows: list[dict[str, object]] = []
    groups = sorted({entry.group for entry in scored.entries} - {""})
    for name, found in scored.pictures.items():
        by_group: dict[str, list[float]] = {}
        interval = share_interval if name in METRICS and METRICS[name].range == "0 or 1" else mean_interval
        for group in ("", *groups):
            own = [score for score, entry in zip(found, scored.entries, strict=True) if group in ("", entry.group)]
            values = [value for score in own if (value := getattr(score, "value", None)) is not None]
            row: dict[str, object] = {"metric": name, "group": group, "scored": len(values), "asked": len(own)}
            by_group[group] = values
            rows.append(row | _mean(interval(np.array(values)) if values else None) | {"reasons": _reasons(own)})
        parts = [by_group[group] for group in groups]
        if len(parts) > 1:  # what GenEval and others call their overall score
            grouped = [score for score, entry in zip(found, scored.entries, strict=True) if entry.group]
            row = {"metric": name, "group": "mean of groups", "scored": sum(map(len, parts)), "asked": len(grouped)}
            rows.append(
                row | _mean(mean_of_means([np.array(part) for part in parts]) if all(parts) else None) | {"reasons": _reasons(grouped)}
            )
    for name, score in scored.sets.items():
        value = getattr(score, "value", None)
        rows.append({"metric": name, "group": "", "scored": int(value is not None), "asked": 1, "value": value, "note": score.reason})
    return rows


def _mean(estimate: "Estimate | None") -> dict[str, object]:
    if estimate is None:
        return {}
    low, high = (None, None) if estimate.is_open else (estimate.low, estimate.high)
    return {"mean": estimate.value, "low": low, "high": high}


def _reasons(found: "Sequence[Score | Unscored]") -> dict[str, int]:
    return dict(Counter(score.reason for score in found if not hasattr(score, "value")))


def _line(row: dict[str, object]) -> str:
    name = f"{row['metric']} ({row['group']})" if row["group"] else str(row["metric"])
    if "note" in row:
        shown = f"{row['value']:.4f}" if row["value"] is not None else "unscored"
        return f"{name:<28} {shown}" + (f"  ({row['note']})" if row["note"] else "")
    counts = f"{row['scored']}/{row['asked']} scored"
    reasons = row["reasons"]
    assert isinstance(reasons, dict)
    told = "".join(f"; {count} x {reason}" for reason, count in list(reasons.items())[:2])
    told += f"; {len(reasons) - 2} further reasons in the table" if len(reasons) > 2 else ""
    if "mean" not in row:
        return f"{name:<28} unscored, {counts}{told}"
    interval = "[-]" if row["low"] is None else f"[{row['low']:.4f}, {row['high']:.4f}]"
    return f"{name:<28} {row['mean']:.4f} {interval}, {counts}{told}"
