"""Scores of a set of pictures against another: how far apart their features are."""

from collections.abc import Mapping, Sequence

from vernissage.errors import BadInput
from vernissage.metrics.distribution import (
    ClassParts,
    Manifold,
    Statistics,
    frechet_distance,
    kernel_distance,
    manifold_scores,
)
from vernissage.metrics.unified import NORMS, unified
from vernissage.records.verdict import Score
from vernissage.scoring.features import SAMPLE, Gathered
from vernissage.scoring.pictures import Found, Unscored, as_scores
from vernissage.scoring.registry import ENCODERS, Metric

FRECHET = ("fid", "clip-fid", "fd-dinov2")
KERNEL = ("kid", "clip-kid")
PARTS = 10
"""Of an Inception Score."""


def encoders_of(metrics: Sequence[Metric]) -> list[str]:
    """Names of the encoders that metrics need."""
    return [name for name in ENCODERS if any(name in metric.needs for metric in metrics)]


def score_set(
    metric: Metric,
    mine: Mapping[str, Gathered],
    theirs: Mapping[str, Gathered],
    given: Statistics | None,
    manifolds: dict[str, Manifold],
    classes: ClassParts | None,
) -> Found:
    """One metric of a set.

    Args:
        metric: Whose needs name a set.
        mine: Features of the set, by encoder.
        theirs: Those of the reference set.
        given: Statistics in the place of a reference set.
        manifolds: What of precision and the like is known already, by encoder; added to.
        classes: Of the set's pictures, for the Inception Score; None where the encoder tells none.
    """
    (encoder,) = encoders_of([metric])
    own, other = mine[encoder], theirs.get(encoder, Gathered())
    notes = [
        f"{each.missing} of {each.seen + each.missing} {what} could not be read or encoded"
        for each, what in ((own, "pictures"), (other, "reference pictures"))
        if each.missing
    ]
    try:
        if metric.name in FRECHET:
            statistics = given if given is not None else other.statistics
            if own.statistics is None or statistics is None or min(own.statistics.n, statistics.n) < 2:
                return Unscored(reason="; ".join(["a Frechet distance needs at least 2 pictures on either side", *notes]))
            theirs_n = statistics.n if given is None or given.n > 2 else own.statistics.n  # a file may not tell of how many it is
            n, width = min(own.statistics.n, theirs_n), len(own.statistics.mean)
            if n <= width:
                notes.append(f"{n} pictures for {width} features: biased, compare only with equal counts")
            (score,) = as_scores([frechet_distance(own.statistics, statistics)])
        elif metric.name == "inception-score":
            if classes is None:
                raise BadInput("The encoder `inception` tells no classes.", hint="Use the driver inception.")
            mean, spread = classes.score()
            (score,) = as_scores([mean])
            notes.append(f"standard deviation over {PARTS} parts {spread:.4f}")
        elif given is not None:
            return Unscored(reason=f"{metric.name} needs the reference pictures, not their statistics")
        elif metric.name in KERNEL:
            mean, spread = kernel_distance(own.features, other.features)
            (score,) = as_scores([mean])
            notes += [f"standard deviation over subsets {spread:.4g}", *_sampled(own, other)]
        else:
            if encoder not in manifolds:
                manifolds[encoder] = manifold_scores(other.features, own.features)
            (score,) = as_scores([getattr(manifolds[encoder], metric.name)])
            notes += _sampled(own, other)
    except BadInput as error:
        return Unscored(reason="; ".join([str(error), *notes]))
    return score.model_copy(update={"reason": "; ".join(notes)}) if isinstance(score, Score) else score


def _sampled(*sets: Gathered) -> list[str]:
    return [f"of a sample of {SAMPLE:,}"] if any(each.seen > SAMPLE for each in sets) else []


def unify(pictures: Mapping[str, Sequence[Found]], sets: Mapping[str, Found]) -> Found:
    """One number of all scores that have a norm: of pictures their mean, of the set as it is.

    Returns:
        In [0, 1] with the norms, and what has none and is not in it, as its reason; Unscored where one of the scores is missing.
    """
    values: dict[str, list[float]] = {
        name: [each.value for each in found if isinstance(each, Score)]
        for name, found in {**pictures, **{name: [each] for name, each in sets.items()}}.items()
        if name in NORMS
    }
    if missing := [name for name, own in values.items() if not own]:
        return Unscored(reason=f"there is no score of {', '.join(missing)}")
    if not values:
        return Unscored(reason="no score that has a norm was asked for")
    told = ", ".join(f"{name} {NORMS[name]}" for name in values)
    left = [name for name in (*pictures, *sets) if name not in NORMS and name != "unified"]
    without = f"; without {', '.join(left)}, of which there is no norm" if left else ""
    return Score(value=unified({name: sum(own) / len(own) for name, own in values.items()}), reason=f"norms: {told}{without}")
