"""How far raters agree: Krippendorff's alpha and intraclass correlation."""

from typing import Literal

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput

Scale = Literal["nominal", "ordinal", "interval"]
Form = Literal["ICC(1,1)", "ICC(2,1)", "ICC(3,1)", "ICC(1,k)", "ICC(2,k)", "ICC(3,k)"]


def krippendorff_alpha(values: ndarray, scale: Scale = "interval") -> float:
    """Agreement beyond chance among any number of raters, some of whom may have left items out.

    Args:
        values: Ratings, shape (rater, item), NaN where unrated.
        scale: What differences between ratings mean.

    Returns:
        At most 1, which means perfect; 0 means chance.

    Raises:
        BadInput: Fewer than two ratings can be compared, or all are equal.

    References:
        Krippendorff (2011), Computing Krippendorff's alpha-reliability.

    Example:
        >>> krippendorff_alpha(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
        1.0
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise BadInput("Alpha needs a matrix of raters and items.", hint="Pass shape (rater, item).")
    values = values[:, (~np.isnan(values)).sum(axis=0) >= 2]
    labels, codes = np.unique(values[~np.isnan(values)], return_inverse=True)
    if len(labels) < 2:
        raise BadInput("Alpha is undefined: no two ratings of one item, or all ratings are equal.", hint="Gather more ratings.")
    table = np.zeros((values.shape[1], len(labels)))  # how often an item got a label
    np.add.at(table, (np.nonzero(~np.isnan(values))[1], codes), 1)
    per_item = table.sum(axis=1)
    coincidences = (table.T / (per_item - 1)) @ table - np.diag((table.T / (per_item - 1)).sum(axis=1))
    totals = coincidences.sum(axis=1)
    distances = _distances(labels, totals, scale)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (coincidences * distances).sum() / (expected * distances).sum())


def _distances(labels: ndarray, totals: ndarray, scale: Scale) -> ndarray:
    if scale == "nominal":
        return 1.0 - np.eye(len(labels))
    if scale == "interval":
        return (labels[:, None] - labels) ** 2
    middles = np.cumsum(totals) - totals / 2
    return (middles[:, None] - middles) ** 2


def icc(values: ndarray, form: Form = "ICC(2,k)") -> float:
    """Intraclass correlation of complete ratings.

    Args:
        values: Shape (rater, item), without gaps, at least two of each.
        form: ICC(1,.) for raters drawn anew for each item, (2,.) for raters drawn once, (3,.) for these raters only;
            (.,1) for a single rating, (.,k) for the mean of all raters.

    Returns:
        At most 1, which means perfect.

    Raises:
        BadInput: There is a gap, too little, no spread, or a variance that is estimated below 0.

    References:
        Shrout and Fleiss (1979), Intraclass correlations: uses in assessing rater reliability.
    """
    values = np.asarray(values, dtype=float).T
    if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
        raise BadInput("ICC needs at least two raters and two items, without gaps.", hint="Leave out what was not rated by all.")
    items, raters = values.shape
    grand = values.mean()
    between = raters * ((values.mean(axis=1) - grand) ** 2).sum() / (items - 1)
    columns = items * ((values.mean(axis=0) - grand) ** 2).sum() / (raters - 1)
    within = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / (items * (raters - 1))
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + grand
    error = (residual**2).sum() / ((items - 1) * (raters - 1))
    match form:
        case "ICC(1,1)":
            over, under = between - within, between + (raters - 1) * within
        case "ICC(2,1)":
            over, under = between - error, between + (raters - 1) * error + raters * (columns - error) / items
        case "ICC(3,1)":
            over, under = between - error, between + (raters - 1) * error
        case "ICC(1,k)":
            over, under = between - within, between
        case "ICC(2,k)":
            over, under = between - error, between + (columns - error) / items
        case _:
            over, under = between - error, between
    if between <= 0:
        raise BadInput("ICC is undefined: all items have the same mean.", hint="Check the ratings.")
    if under <= 0 or over > under:
        raise BadInput("ICC is undefined: raters differ more than items do.", hint="Check the ratings.")
    return float(over / under)
