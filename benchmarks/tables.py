"""Write benchmarks/README.md from the newest result of each benchmark.

Command:   .venv/bin/python benchmarks/tables.py
The page is generated, never edited; a test sees to it that it matches the results.
"""

import json
from pathlib import Path
from typing import Any

from vernissage.metrics.unified import NORMS, unified

FOLDER = Path(__file__).parent


def newest(name: str) -> dict[str, Any] | None:
    path = FOLDER / "results" / f"{name}.jsonl"
    return json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) if path.exists() else None


def percent(estimate: list[float]) -> str:
    value, low, high, _ = estimate
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def t2i_section(row: dict[str, Any]) -> list[str]:
    figures, facts = row["figures"], ["kind", "colour", "count", "relation", "place", "time", "style"]
    lines = [
        "## Facts painted right",
        "",
        f"{row['settings']['prompts']} held-out prompts; per cent of facts right, 95 % bootstrap interval over prompts; then by fact.",
        "",
    ]
    body = []
    for model, estimate in figures["facts_right"].items():
        shares = figures["by_fact"][model]
        body.append([model, percent(estimate), str(estimate[3]), *(f"{100 * shares[fact]:.0f}" for fact in facts)])
    lines += table(["model", "all facts, %", "n", *facts], body)
    lines += ["", f"Specialists in their own style, {row['settings']['own']} further held-out prompts each; the difference is paired.", ""]
    own = [[style, *(percent(estimate) for estimate in estimates)] for style, estimates in figures["own_style"].items()]
    lines += table(["style", "specialist, facts right, %", "general, %", "difference"], own)
    if "own_distance" not in figures:
        return lines
    lines += [
        "",
        f"The same by prompts that do not name the style, {row['settings']['own'] // 2} each; the style counts among the facts.",
        "",
    ]
    unnamed = [[style, *(percent(estimate) for estimate in estimates)] for style, estimates in figures["own_style_unnamed"].items()]
    lines += table(["style", "specialist, facts right, %", "general, %", "difference"], unnamed)
    lines += [
        "",
        "How near the same pictures are to drawn ones of that style: Frechet distance of DINOv2 features, times 1,000; lower is nearer.",
        "",
    ]
    near = [
        [style, f"{a:.1f}", f"{b:.1f}", f"{c:.1f} [{low:.1f}, {high:.1f}]"]
        for style, (a, b, c, low, high) in figures["own_distance"].items()
    ]
    return lines + table(["style", "specialist", "general", "difference"], near)


def plans_section(row: dict[str, Any]) -> list[str]:
    names = {
        "valid": "valid plans",
        "facts_kept": "facts of the request kept in the prompt",
        "facts_kept_single": "… single",
        "facts_kept_multimodal": "… with a reference picture",
        "facts_kept_history": "… with history",
        "specialist_chosen": "the style's own specialist chosen (chance 16.7, always general 0)",
    }
    figures = row["figures"]
    body = [[names[name], percent(figures[name]), str(figures[name][3])] for name in names]
    lines = ["## Plans", "", f"{row['settings']['chats']} chats of held-out scenes in held-out voices.", ""]
    lines += table(["measure", "%", "n"], body)
    return [*lines, "", f"{figures['seconds_per_chat']:.2f} s a chat."]


def cold_section(row: dict[str, Any]) -> list[str]:
    lines = ["## Cold start", "", f"A new process each time, median of {row['settings']['times']}.", ""]
    body = [[f"`vernissage {name}`".replace("help", "--help"), str(f["median_s"]), str(f["peak_mb"])] for name, f in row["figures"].items()]
    return lines + table(["command", "seconds", "peak memory, MB"], body)


def tree_section(row: dict[str, Any]) -> list[str]:
    names = {
        "objects_f1": "objects, F1 over kinds",
        "objects_precision": "… precision",
        "objects_recall": "… recall",
        "colour_of_found": "colour of the objects found",
        "count_of_found": "count of the objects found",
        "relations": "relation, of scenes with one",
        "style": "style",
        "lighting": "lighting",
        "facts_of_caption": "facts that the caption states rightly",
        "facts_of_tree_prompt": "… the prompt from the tree",
        "facts_of_direct_prompt": "… the direct prompt",
        "answers": "yes/no questions answered rightly",
    }
    lines = ["## What the language model sees", "", f"{row['settings']['scenes']} drawn pictures of held-out scenes.", ""]
    return lines + table(["measure", "%", "n"], [[names[name], percent(e), str(e[3])] for name, e in row["figures"].items()])


def scaled(estimate: list[float], factor: float) -> str:
    """An estimate times something, with its interval."""
    value, low, high = (each * factor for each in estimate[:3])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def repaint_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    names = list(next(iter(figures["boards"]["last"].values())))
    lines = [
        "## Repainting",
        "",
        f"{row['settings']['references']} drawn held-out references, 4 rounds of 3 pictures; per cent, best picture of the last round.",
        "Truth: facts that the checker finds right when the model paints the references' own exact prompts.",
        "",
    ]
    body = [
        [model, percent(figures["truth"][model]), *(percent(cells[name]) for name in names), percent(figures["direct_rating"][model])]
        for model, cells in figures["boards"]["last"].items()
    ]
    lines += table(["model", "truth", *names, "direct text-image rating"], body)
    judged = figures["judged"]
    lines += [
        "",
        "What the mini judge says of the last round's pictures, out of 100; facts: those of the reference's tree, asked one by one.",
        "",
    ]
    shown = [[m, *(scaled(judged[name][m], 100 if name == "judge, facts" else 1) for name in judged)] for m in figures["truth"]]
    lines += table(["model", *(name.removeprefix("judge, ") for name in judged)], shown)
    ranking = figures["ranking"]
    lines += [
        "",
        "Rank correlation over the models with the truth, and with what the checker finds right in the last round's pictures.",
        "",
    ]
    lines += [f"The truth of every second reference ranks them as the truth of the others with {ranking['split halves']:.3f}.", ""]

    def told(value: float | None) -> str:
        return "all equal" if value is None else f"{value:.3f}"

    of_models, of_paintings = ranking["models"], ranking["repaintings"]
    lines += table(
        ["ranked by", "SRCC", "of the repaintings"], [[name, told(of_models[name]), told(of_paintings[name])] for name in of_models]
    )
    lines += [
        "",
        "What the rounds bring, paired, in points: the picture chosen over all rounds, or in the last one, minus that of round 1; and for",
        "mini/general where the judge rates, and its answers about the tree's facts choose beside CLIP and DINOv2. Of later rounds'",
        f"feedback {100 * figures['no_change']:.0f} % ask for no change: the picture stays in the running, and what it is chosen by",
        "cannot fall.",
        "",
    ]
    by_facts = figures["rises_chosen_by_facts"]
    gains = {name: (figures["rises"].get(name), by_facts.get(name)) for name in dict.fromkeys([*figures["rises"], *by_facts])}
    lines += table(
        ["score", "rise", "chosen by facts, too"],
        [[name, *(percent(estimate) if estimate else "-" for estimate in both)] for name, both in gains.items() if any(both)],
    )
    lines += ["", "Prompt from the tree minus direct prompt, mini/general, last round, paired, in points:", ""]
    return lines + table(["score", "difference"], [[name, percent(estimate)] for name, estimate in figures["tree_minus_direct"].items()])


def speed_section(row: dict[str, Any]) -> list[str]:
    settings = row["settings"]
    lines = [
        "## Speed of repainting",
        "",
        f"{settings['references']} references, 4 rounds of 3 pictures, median of {settings['times']} runs side by side.",
        "Plain: one picture, one question at a time.",
        "",
    ]
    body = [[name, f"{f['plain']:.1f}", f"{f['in step']:.1f}", f"{f['ratio']:.2f}"] for name, f in row["figures"].items()]
    return lines + table(["MLLM", "plain, s", "in step, s", "times as fast"], body)


def fid_section(row: dict[str, Any]) -> list[str]:
    lines = ["## Speed of the Frechet distance", "", f"{row['settings']['features']} features, from mean and covariance.", ""]
    body = [
        [name, f"{f['seconds']:.2f}", f"{f['times_slower']:.1f}", f"{f['relative_difference']:.0e}"] for name, f in row["figures"].items()
    ]
    return lines + table(["package", "seconds", "times ours", "relative difference to ours"], body)


def judge_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    names = ("perception", "correspondence", "answers")
    lines = [
        "## Mini judge",
        "",
        f"{row['settings']['pictures']} pictures of held-out prompts with SYNTHETIC ratings; SRCC with the opinions times 100, answers",
        "right in per cent, 95 % bootstrap intervals over pictures."
        + (" Variants of the ablation learnt from a sixth of the training pictures." if row["settings"]["ablation"] else ""),
        "",
    ]
    body = [
        [judge, group, *(percent(found[name]) if name in found else "" for name in names), str(max(e[3] for e in found.values()))]
        for judge, groups in figures.items()
        for group, found in groups.items()
        if found and (judge == "mini judge" or group in ("all", "models held out"))
    ]
    return lines + table(["judge", "pictures", *names, "n"], body)


def judge_speed_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    seconds, pictures = figures["seconds"], figures["pictures"]
    lines = [
        "## Speed of judging" + (", a model of real size" if figures["image_tokens"] > 100 else ""),
        "",
        f"{pictures} pictures of {figures['image_tokens']} image tokens: perception, correspondence and five answers; median of "
        f"{row['settings']['times']} runs side by side. No score differs by more than {figures['furthest']:.1g}.",
        "",
    ]
    first = seconds["seven passes"]
    body = [[name, f"{value / pictures:.3f}", f"{first / value:.2f}"] for name, value in seconds.items()]
    return lines + table(["way", "s a picture", "times as fast as seven passes"], body)


def tokens_section(row: dict[str, Any]) -> list[str]:
    f = row["figures"]
    both = f["training_s"] + f["states_once_s"]
    lines = [
        "## Training ModelTokens",
        "",
        f"{f['samples']} chats, {f['models']} models, 5 epochs; final losses differ by {f['loss_apart']:.1g}, "
        f"{100 * f['same_choices']:.1f} % of choices are the same.",
        "",
    ]
    body = [
        ["backbone in every step", f"{f['naive_s']:.2f}", "1"],
        ["states once, with that one pass", f"{both:.2f}", f"{f['naive_s'] / both:.1f}"],
        ["training alone", f"{f['training_s']:.3f}", f"{f['naive_s'] / f['training_s']:.0f}"],
    ]
    return lines + table(["way", "seconds", "times as fast"], body)


def large_tokens_section(row: dict[str, Any]) -> list[str]:
    f = row["figures"]
    return [
        "## Training ModelTokens of thousands of models",
        "",
        f"{f['models']:,} models, {f['samples']:,} samples of width {f['width']:,} (synthetic states), 5 epochs: "
        f"{f['seconds'] / 60:.1f} minutes, peak memory {f['peak_gb']:.1f} GB.",
    ]


def chatgen_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    head = ["planner", "queries", "scored/asked", "prompt (BERTScore)", "model", "among five", "arguments", "sampler", "steps", "cfg_scale"]

    def body(rows: list[dict[str, Any]], told: str = "") -> list[list[str]]:
        return [
            [
                each["planner"] + told,
                each["part"],
                f"{each['scored']}/{each['asked']}",
                *("-" if each[name] is None else percent(each[name]) for name in ("prompt", "selection", "among_five", "arguments")),
                *(f"{100 * each['by_argument'][name][0]:.1f}" for name in ("sampler", "steps", "cfg_scale")),
            ]
            for each in rows
        ]

    rows = body(figures["steps"]["rows"])
    for known in ("prompt", "model"):
        told = ", true prompt given" if known == "prompt" else ", true prompt and model given"
        rows += body([each for each in figures[f"{known} given"]["rows"] if each["part"] in ("all", "supervised", "few-shot")], told)
    lines = [
        "## Planners, step by step",
        "",
        f"The mini ChatGenBench: {row['settings']['chats']} held-out chats of a community of 49 models whose names tell",
        "nothing, 12 of them rare (few-shot). Per cent; the prompt's BERTScore F is rescaled so that different queries' prompts have 0.",
        "",
        *table(head, rows),
        "",
        "Paired differences over all chats that both planned:",
        "",
    ]
    lines += table(
        ["difference", "measure", "in points"], [[f"{a} - {b}", name, percent(gap)] for a, b, name, gap in figures["steps"]["differences"]]
    )
    new, seconds = figures["new models"], figures["seconds a query"]
    lines += [
        "",
        "A model added by its description alone, each of the 49 in turn: among the five likeliest for",
        f"{percent(new['own_among_five'])} % of its own chats (chance {100 * new['chance']:.1f});",
        f"the others lose {percent(new['lost_by_others'])} points of selection.",
        f"Evo takes {seconds['evo']:.3f} s a query, Base {seconds['base']:.3f} s: {seconds['ratio']:.2f} times (the paper's: 1.73).",
    ]
    if "painted" in figures:
        names = list(figures["painted"][0]["scores"])
        drawn = [
            [
                each["planner"],
                *("-" if each["scores"][n] is None else f"{each['scores'][n][0]:.2f}" for n in names),
                f"{100 * unified({n: each['scores'][n][0] for n in names}):.1f}" if all(each["scores"].values()) else "-",
            ]
            for each in figures["painted"]
        ]
        lines += ["", f"The first {row['settings']['painted']} chats painted, against the true plans' pictures with the same seeds:", ""]
        lines += table(["planner", *names, "unified"], drawn)
        lines += [
            "",
            "Norms of unified: " + ", ".join(f"{name} {NORMS[name]}" for name in names) + "; mini CLIP's scores lie beyond theirs.",
        ]
        lines += ["", *(f"{a} against {b}, {name}: {w} won, {t} even, {x} lost." for a, b, name, w, t, x, *_ in figures["duels"])]
    return lines


def deduplicate_section(row: dict[str, Any]) -> list[str]:
    figures, settings = row["figures"], row["settings"]
    return [
        "## Near duplicates",
        "",
        f"{settings['texts']:,} short requests: {figures['seconds']:.0f} s, {figures['gigabytes']:.2f} GB, {figures['kept']:,} stay.",
        f"Against brute force on {settings['sample']:,} others, which drops {figures['dropped_by_brute_force']:,}:",
        f"recall {figures['recall']:.4f}.",
    ]


def score_speed_section(row: dict[str, Any]) -> list[str]:
    figures, settings = row["figures"], row["settings"]
    lines = [
        "## Speed of scoring a folder",
        "",
        f"{settings['pictures']} drawn pictures, median of {settings['times']} runs side by side.",
        "",
    ]
    loops = [
        [name, f"{f['torchmetrics']:.2f}", f"{f['ours']:.2f}", f"{f['ratio']:.2f}", f"{f['ratio_default']:.2f}", f"{f['apart']:.0e}"]
        for name, f in figures.items()
        if "torchmetrics" in f
    ]
    head = [
        "against a loop of torchmetrics",
        "its seconds",
        "ours",
        "times as fast",
        "times as fast with our default batch",
        "scores apart",
    ]
    lines += table(head, loops)
    shared = [[n, f"{f['apart']:.2f}", f"{f['together']:.2f}", f"{f['ratio']:.2f}"] for n, f in figures.items() if "together" in f]
    lines += ["", *table(["sharing an encoder", "one after the other, s", "at once, s", "times as fast"], shared)]
    peaks = ", ".join(f"{name} {value:.0f} MB" for name, value in figures["peak memory, MB"].items())
    return [*lines, "", f"Peak memory: {peaks}."]


def kills_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    items, pictures = ("the same" if figures[name] else "OTHER" for name in ("same_items", "same_pictures"))
    return [
        "## Runs that are killed",
        "",
        f"A repainting run of {figures['items']} items killed {figures['kills']} times at random moments, with",
        f"{', '.join(map(str, figures['items_done_when_killed']))} items done, and resumed each time:",
        f"{items} items and {pictures} pictures as a run left alone.",
    ]


def bert_score_section(row: dict[str, Any]) -> list[str]:
    figures, settings = row["figures"], row["settings"]
    return [
        "## Speed of BERTScore",
        "",
        f"{settings['pairs']} short pairs, median of {settings['times']} runs side by side: {figures['ours']:.2f} s, bert-score "
        f"{figures['bert-score']:.2f} s: {figures['ratio']:.2f} times as fast, numbers within {figures['difference']:.0e}.",
    ]


def evalmi_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    names = [name for name in figures if name not in ("means", "difference")]
    return [
        "## EvalMi-50K's tables",
        "",
        "| `vernissage bench evalmi` | seconds | peak MB |",
        "| --- | --- | --- |",
        *(f"| {name} | {figures[name]['median_s']} | {figures[name]['peak_mb']} |" for name in names),
        "",
        f"The whole command, start and reading included. All {figures['means']} means by model and task are those of a plain loop over the",
        f"authors' rows, to {figures['difference']:.0e}.",
    ]


def evalref_section(row: dict[str, Any]) -> list[str]:
    figures = row["figures"]
    told = ", ".join(f"{name} {count}" for name, count in figures["scored"].items())
    return [
        "## Real pictures through the whole of repainting",
        "",
        f"{figures['repainted']} of {figures['references']} sample pictures of EvalRef-100 were repainted by mini/general in",
        f"{figures['seconds']} s, none ended the run; scored of them: {told}.",
        f"Unscored: {figures['unscored'] or 'none'}; answers that could not be had on the way: {figures['failures'] or 'none'}.",
    ]


SECTIONS = {
    "mini_t2i": t2i_section,
    "mini_plans": plans_section,
    "mini_tree": tree_section,
    "mini_repaint": repaint_section,
    "repaint_speed": speed_section,
    "kill_runs": kills_section,
    "evalref": evalref_section,
    "fid_speed": fid_section,
    "score_speed": score_speed_section,
    "bert_score_speed": bert_score_section,
    "evalmi": evalmi_section,
    "mini_judge": judge_section,
    "judge_speed": judge_speed_section,
    "judge_speed_large": judge_speed_section,
    "mini_chatgen": chatgen_section,
    "deduplicate": deduplicate_section,
    "model_tokens": tokens_section,
    "model_tokens_large": large_tokens_section,
    "cold_start": cold_section,
}


def render() -> str:
    lines = [
        "# Benchmarks",
        "",
        "Generated by `tables.py` from the newest row of each file in `results/`, which is append-only. Each script states its",
        "protocol and its command. What did not work: [LOG.md](LOG.md).",
    ]
    for name, section in SECTIONS.items():
        row = newest(name)
        if row is not None:
            origin = f"*`benchmarks/{name.removesuffix('_large')}.py`, {row['date']}, {row['machine']}*"
            lines += ["", *section(row), "", origin]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(render(), encoding="utf-8")
