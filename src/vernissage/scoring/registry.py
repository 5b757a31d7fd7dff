"""Every metric by name: what it needs, its range and direction, where it comes from, and what it was checked against."""

from typing import Literal, NamedTuple

from vernissage.errors import BadInput, UnknownName
from vernissage.metrics.unified import CHATGEN, NORMS

Need = Literal[
    "prompt",
    "reference",
    "questions",
    "metadata",
    "set",
    "references",
    "clip",
    "dinov2",
    "inception",
    "mllm",
    "judge",
    "detector",
    "scorer",
]
"""A prompt, a reference picture, questions or GenEval's metadata for each picture; all pictures as a set, a set of reference pictures;
or somebody who encodes, answers, judges, detects or scores."""
ENCODERS = ("clip", "dinov2", "inception")


_LICENCES = {
    "clip": "MIT (OpenAI's CLIP)",
    "detector": "the detector's",
    "dinov2": "Apache-2.0 (DINOv2)",
    "inception": "Apache-2.0 (Inception of 2015)",
    "judge": "the judge's",
    "mllm": "the MLLM's",
}
_SCORERS = {
    "pickscore": ("clip", "MIT"),
    "hpsv2": ("hpsv2", "Apache-2.0"),
    "image-reward": ("image-reward", "Apache-2.0"),
    "vqascore-flant5": ("clip-flant5", "Apache-2.0"),
    "niqe": ("niqe", "the authors' own terms"),
    "brisque": ("brisque", "the authors' own terms"),
    "blip-itm": ("blip", "BSD-3-Clause"),
    "aesthetic": ("aesthetic", "Apache-2.0; CLIP MIT"),
    "lpips": ("lpips", "BSD-2-Clause; AlexNet BSD-3-Clause"),
}
"""Driver and licence of learned metrics."""


class Metric(NamedTuple):
    """An automatic score."""

    name: str
    about: str
    needs: frozenset[Need]
    direction: Literal["higher", "lower"]
    range: str
    source: str
    checked: str
    """Against what its numbers were compared, and how closely they agree."""

    @property
    def driver(self) -> str:
        """The driver that `[scorers.NAME]` takes for its published weights; empty where it needs no checkpoint of its own."""
        return _SCORERS[self.name][0] if self.name in _SCORERS else ""

    @property
    def licence(self) -> str:
        """Of the published weights, as far as their authors state one; ours to read, yours to heed."""
        if self.name in _SCORERS:
            return _SCORERS[self.name][1]
        return "; ".join(_LICENCES[need] for need in sorted(self.needs) if need in _LICENCES) or "no weights"

    @property
    def reads_tags(self) -> bool:
        """Whether a tagger, where there is one, takes part in it."""
        return self.name == "compbench-3-in-1"

    @property
    def of_set(self) -> bool:
        """Whether it scores a set of pictures, not each."""
        return "set" in self.needs


def _metric(name: str, about: str, needs: str, direction: Literal["higher", "lower"], scale: str, source: str, checked: str) -> Metric:
    return Metric(name, about, frozenset(needs.split()), direction, scale, source, checked)  # pyright: ignore[reportArgumentType]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric(
            "clipscore",
            "How well a picture fits its prompt: cosine of CLIP features",
            "prompt clip",
            "higher",
            "0 to 100",
            'Hessel et al. (2021), CLIPScore, without the factor 2.5 and the words "A photo depicts"; max(100 cos, 0)',
            "torchmetrics.functional.multimodal.clip_score on one tiny checkpoint, 1e-3",
        ),
        _metric(
            "clip-image",
            "How alike picture and reference are: cosine of CLIP features",
            "reference clip",
            "higher",
            "-1 to 1",
            "ImageRepainter (arXiv 2411.09449), metrics",
            "transformers.CLIPModel on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "dinov2",
            "How alike picture and reference are: cosine of DINOv2 features",
            "reference dinov2",
            "higher",
            "-1 to 1",
            "ImageRepainter (arXiv 2411.09449), metrics",
            "transformers.Dinov2Model on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "ssim",
            "How alike picture and reference are, pixel by pixel: structure, contrast, light",
            "reference",
            "higher",
            "-1 to 1",
            "Wang et al. (2004); the reference is scaled to the picture's size",
            "skimage.metrics.structural_similarity, 1e-9",
        ),
        _metric(
            "psnr",
            "How alike picture and reference are: mean squared error of pixels in decibels",
            "reference",
            "higher",
            "0 to 100 dB, 100 for equal pictures",
            "10 log10(255^2 / MSE); the reference is scaled to the picture's size",
            "skimage.metrics.peak_signal_noise_ratio, 1e-9",
        ),
        _metric(
            "vqascore",
            "How well a picture fits its prompt: probability that an MLLM says yes when asked whether it shows it",
            "prompt mllm",
            "higher",
            "0 to 1",
            "Lin et al. (2024), VQAScore, with any MLLM that tells probabilities; yes against no",
            "the definition, on an MLLM with known probabilities",
        ),
        _metric(
            "q-align",
            "How good a picture looks: an MLLM's probabilities of bad, poor, fair, good, excellent, counted 1 to 5",
            "mllm",
            "higher",
            "1 to 5",
            "Wu et al. (2023), Q-Align, with any MLLM that tells probabilities",
            "the definition, on an MLLM with known probabilities",
        ),
        _metric(
            "mllm-perception",
            "How good a picture looks, as an MLLM rates it",
            "mllm",
            "higher",
            "0 to 1",
            "ImageRepainter (arXiv 2411.09449): a rating from 1 to 5, scaled",
            "the definition, on an MLLM with known ratings",
        ),
        _metric(
            "mllm-match",
            "How well a picture fits its prompt, as an MLLM rates it",
            "prompt mllm",
            "higher",
            "0 to 1",
            "ImageRepainter (arXiv 2411.09449), direct rating of text and image: from 1 to 5, scaled",
            "the definition, on an MLLM with known ratings",
        ),
        _metric(
            "tifa",
            "Share of questions about a picture that an MLLM answers rightly",
            "questions mllm",
            "higher",
            "0 to 1",
            "Hu et al. (2023), TIFA, eq. 1; TIFA's questions by --questions, or the MLLM's own",
            "examples by hand",
        ),
        _metric(
            "dsg",
            "Share of questions that an MLLM answers rightly, those counted wrong that need what is missing",
            "questions mllm",
            "higher",
            "0 to 1",
            "Cho et al. (2024), Davidsonian Scene Graph, section 3; DSG's questions by --questions, or the MLLM's own",
            "examples by hand",
        ),
        _metric(
            "geneval",
            "Whether things, counts, colours and positions are all right, as an MLLM says",
            "questions mllm",
            "higher",
            "0 or 1",
            "Ghosh et al. (2023), GenEval, its metadata; an MLLM answers in the detector's place",
            "examples by hand",
        ),
        _metric(
            "geneval-detector",
            "Whether things, counts, colours and positions are all right, as a detector and CLIP find them",
            "metadata detector clip",
            "higher",
            "0 or 1",
            "Ghosh et al. (2023), GenEval, as its evaluate_images.py decides; in its layout",
            "its rules by hand; the detectors against transformers' own processing",
        ),
        _metric(
            "compbench-attributes",
            "How surely each thing of the prompt is there with its attributes: product of an MLLM's probabilities",
            "prompt mllm",
            "higher",
            "0 to 1",
            "Huang et al. (2023), T2I-CompBench, disentangled BLIP-VQA; any MLLM, things found by articles and numbers",
            "examples by hand",
        ),
        _metric(
            "compbench-spatial",
            "How surely the prompt's spatial relations hold: product of an MLLM's probabilities",
            "prompt mllm",
            "higher",
            "0 to 1",
            "Huang et al. (2023), T2I-CompBench; an MLLM answers in the detector's place",
            "examples by hand",
        ),
        _metric(
            "compbench-spatial-detector",
            "How surely the prompt's spatial relations hold: where a detector finds things, and how sure it is",
            "prompt detector",
            "higher",
            "0 to 1",
            "Huang et al. (2023), T2I-CompBench, as its 2D_spatial_eval.py decides; any detector",
            "its rules by hand; the detectors against transformers' own processing",
        ),
        _metric(
            "compbench-3-in-1",
            "Mean of compbench-attributes, compbench-spatial and CLIP's cosine; of those that the prompt's kind calls for",
            "prompt mllm clip",
            "higher",
            "0 to 1",
            "Huang et al. (2023), T2I-CompBench, 3-in-1; CLIP reads no adjectives where [tagger] tells them",
            "examples by hand",
        ),
        _metric(
            "judge-perception",
            "How good a picture looks, as a judge trained on ratings says",
            "judge",
            "higher",
            "0 to 100",
            "LMM4LMM (arXiv 2504.08358)",
            "see docs/judge.md",
        ),
        _metric(
            "judge-correspondence",
            "How well a picture fits its prompt, as a judge trained on ratings says",
            "prompt judge",
            "higher",
            "0 to 100",
            "LMM4LMM (arXiv 2504.08358)",
            "see docs/judge.md",
        ),
        _metric(
            "pickscore",
            "How well people like a picture for its prompt: CLIP trained on their choices, scaled",
            "prompt scorer",
            "higher",
            "about 15 to 30",
            "Kirstain et al. (2023), PickScore; logit scale times cosine",
            "transformers.CLIPModel's logits_per_image on one tiny checkpoint, 1e-4",
        ),
        _metric(
            "hpsv2",
            "How well people like a picture for its prompt: CLIP trained on their rankings",
            "prompt scorer",
            "higher",
            "-1 to 1, about 0.2 to 0.3",
            "Wu et al. (2023), HPSv2 and v2.1; cosine, pictures padded to squares, scaled with antialiasing as by torchvision from 0.17 on",
            "open_clip 3.3 on one tiny checkpoint in its naming, 1e-5",
        ),
        _metric(
            "image-reward",
            "How well people like a picture for its prompt: BLIP trained on their rankings",
            "prompt scorer",
            "higher",
            "about -2 to 2",
            "Xu et al. (2023), ImageReward",
            "the classes of the package image-reward 1.5 on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "vqascore-flant5",
            "How well a picture fits its prompt: probability that CLIP-FlanT5 says Yes when asked whether it shows it",
            "prompt scorer",
            "higher",
            "0 to 1",
            "Lin et al. (2024), VQAScore, as t2v_metrics computes it",
            "the loss of transformers.T5ForConditionalGeneration on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "niqe",
            "How far local contrasts are from those of natural pictures",
            "scorer",
            "lower",
            "from 0",
            "Mittal et al. (2013), NIQE",
            "scikit-video 1.1's features, 1e-6 (two of 36 apart, where it takes the left spread for the right); distance by hand. "
            "Where areas are flat or saturated, the last digits decide: within 4.3 % of pyiqa's on 17 pictures, median 0.3 %",
        ),
        _metric(
            "brisque",
            "How distorted people would find a picture, by its local contrasts",
            "scorer",
            "lower",
            "about 0 to 100",
            "Mittal et al. (2012), BRISQUE",
            "piq 0.8's features, 1e-9; the regression against scikit-learn's SVR, 1e-9. Where areas are flat, see niqe",
        ),
        _metric(
            "blip-itm",
            "How well a picture fits its prompt: probability of a match by BLIP's image-text head",
            "prompt scorer",
            "higher",
            "0 to 1",
            "Li et al. (2022), BLIP",
            "transformers.BlipForImageTextRetrieval on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "aesthetic",
            "How beautiful a picture is: a small network on CLIP features",
            "scorer",
            "higher",
            "about 1 to 10",
            "Schuhmann (2022), LAION improved aesthetic predictor",
            "the network by hand on one tiny checkpoint, 1e-5",
        ),
        _metric(
            "lpips",
            "How unlike picture and reference are to a trained eye",
            "reference scorer",
            "lower",
            "from 0",
            "Zhang et al. (2018), LPIPS 0.1 with AlexNet; the reference is scaled to the picture's size",
            "the formula by hand on random weights of the true shapes, 1e-5",
        ),
        _metric(
            "fid",
            "How far the set is from the reference set: Frechet distance of Inception's features",
            "set references inception",
            "lower",
            "from 0",
            "Heusel et al. (2017), FID; pictures scaled as in 2015, as pytorch-fid or as clean-fid do",
            "features: torch-fidelity on one checkpoint of random weights, 1e-6; distance: as clip-fid",
        ),
        _metric(
            "kid",
            "How far the set is from the reference set: kernel distance of Inception's features",
            "set references inception",
            "lower",
            "around 0 and up",
            "Binkowski et al. (2018); unbiased, cubic kernel, 100 subsets of 1,000",
            "features as fid; distance as clip-kid",
        ),
        _metric(
            "inception-score",
            "How sure Inception is of each picture's class, and how varied classes are",
            "set inception",
            "higher",
            "1 to 1008",
            "Salimans et al. (2016); 10 parts",
            "features as fid; score: torch-fidelity on the same features, 1e-6",
        ),
        _metric(
            "clip-fid",
            "How far the set is from the reference set: Frechet distance of CLIP features",
            "set references clip",
            "lower",
            "from 0",
            "Kynkaanniemi et al. (2023); features not scaled",
            "scipy.linalg.sqrtm, torchmetrics, torch-fidelity and pytorch-fid on the same features, 1e-6 relative",
        ),
        _metric(
            "clip-kid",
            "How far the set is from the reference set: kernel distance of CLIP features",
            "set references clip",
            "lower",
            "around 0 and up",
            "Binkowski et al. (2018); unbiased, cubic kernel, 100 subsets of 1,000",
            "torchmetrics on the same features and subsets, 1e-6 relative",
        ),
        _metric(
            "fd-dinov2",
            "How far the set is from the reference set: Frechet distance of DINOv2 features",
            "set references dinov2",
            "lower",
            "from 0",
            'Stein et al. (2023), Exposing flaws of generative model evaluation metrics; like = "dgm-eval" scales pictures as there',
            "as clip-fid",
        ),
        _metric(
            "precision",
            "Share of pictures that look like reference pictures, by DINOv2 features",
            "set references dinov2",
            "higher",
            "0 to 1",
            "Kynkaanniemi et al. (2019), k = 5",
            "prdc's formulas by brute force, equal; distances that are the same count as near",
        ),
        _metric(
            "recall",
            "Share of reference pictures that the set could have made, by DINOv2 features",
            "set references dinov2",
            "higher",
            "0 to 1",
            "Kynkaanniemi et al. (2019), k = 5",
            "prdc's formulas by brute force, equal; distances that are the same count as near",
        ),
        _metric(
            "density",
            "How densely pictures lie around reference pictures, by DINOv2 features",
            "set references dinov2",
            "higher",
            "from 0, may exceed 1",
            "Naeem et al. (2020), k = 5",
            "prdc's formulas by brute force, equal; distances that are the same count as near",
        ),
        _metric(
            "coverage",
            "Share of reference pictures with a picture near them, by DINOv2 features",
            "set references dinov2",
            "higher",
            "0 to 1",
            "Naeem et al. (2020), k = 5",
            "prdc's formulas by brute force, equal; distances that are the same count as near",
        ),
        _metric(
            "unified",
            "One number of the scores asked for beside it: their mean, each between what counts as 0 and what as 1",
            "set",
            "higher",
            "0 to 1",
            "ChatGen (arXiv 2411.17176), Unified; asked for alone, of fid, clipscore, hpsv2 and image-reward; norms told with it",
            "examples by hand",
        ),
    )
}


def find_metrics(names: list[str] | tuple[str, ...]) -> list[Metric]:
    """Metrics by name, each once; "unified" alone brings what ChatGen's is of.

    Raises:
        UnknownName: There is no such metric.
        BadInput: Unified is asked for beside metrics of which none has a norm.
    """
    for name in names:
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
    if "unified" in names and not NORMS.keys() & set(names):
        if set(names) != {"unified"}:
            raise BadInput("Unified needs a metric that has a norm.", hint=f"It takes: {', '.join(NORMS)}; alone it brings ChatGen's four.")
        names = [*CHATGEN, *names]
    return [METRICS[name] for name in dict.fromkeys(names)]
