"""Agreement of raters against the examples that the measures' authors printed."""

import numpy as np
import pytest

from vernissage.errors import BadInput
from vernissage.metrics.agreement import icc, krippendorff_alpha

_ = np.nan
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section D: four observers, twelve units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)
# Shrout and Fleiss (1979), table 2: four judges, six targets; table 4 gives the six correlations.
JUDGES = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]])


@pytest.mark.parametrize(("scale", "printed"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_what_krippendorff_printed(scale, printed):
    assert krippendorff_alpha(OBSERVERS, scale) == pytest.approx(printed, abs=0.0006)


@pytest.mark.parametrize(
    ("form", "printed"),
    [("ICC(1,1)", 0.17), ("ICC(2,1)", 0.29), ("ICC(3,1)", 0.71), ("ICC(1,k)", 0.44), ("ICC(2,k)", 0.62), ("ICC(3,k)", 0.91)],
)
def test_icc_is_what_shrout_and_fleiss_printed(form, printed):
    assert icc(JUDGES, form) == pytest.approx(printed, abs=0.005)


def test_agreement_that_is_undefined_is_refused():
    with pytest.raises(BadInput, match="undefined"):
        krippendorff_alpha(np.full((3, 4), 2.0))
    with pytest.raises(BadInput, match="undefined"):
        krippendorff_alpha(np.array([[1.0, _], [_, 2.0]]))
    with pytest.raises(BadInput, match="without gaps"):
        icc(OBSERVERS)
    with pytest.raises(BadInput, match="at least two"):
        icc(JUDGES[:1])
    with pytest.raises(BadInput, match="same mean"):
        icc(np.array([[1.0, 2.0], [2.0, 1.0]]))


@pytest.mark.parametrize("form", ["ICC(1,1)", "ICC(2,1)", "ICC(3,1)", "ICC(1,k)", "ICC(2,k)", "ICC(3,k)"])
def test_an_intraclass_correlation_is_at_most_one_or_undefined(form):
    rng = np.random.default_rng(0)
    defined = 0
    for _ in range(500):
        ratings = rng.integers(1, 6, size=(int(rng.integers(2, 5)), int(rng.integers(2, 6)))).astype(float)
        try:
            value = icc(ratings, form)
        except BadInput:
            continue
        defined += 1
        assert np.isfinite(value)
        assert value <= 1
    assert defined > 100
    if form == "ICC(2,k)":
        with pytest.raises(BadInput, match="differ more than items"):
            icc(np.array([[5, 3, 2, 2], [3, 3, 4, 5], [1, 5, 3, 2]]), form)
