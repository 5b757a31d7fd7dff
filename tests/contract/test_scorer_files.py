"""Files that are no checkpoint of a learned metric, or one of another model: an error that names them, and never a number."""

import json
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from checkpoints import BRISQUE, clip_flant5_tensors, image_reward_tensors, write_brisque
from formulas import colours
from vernissage.drivers.score_clip_flant5 import ClipFlanT5Scorer
from vernissage.drivers.score_image_reward import ImageRewardScorer
from vernissage.drivers.score_naturalness import BrisqueScorer, NiqeScorer
from vernissage.errors import DriverError
from vernissage.records.verdict import Unscored

CONTENTS = {
    "nothing": b"",
    "words": b"no such thing " * 40,
    "a page": b"<!DOCTYPE html><html>Not found</html>",
    "a picture": b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
    "the start of a zip": b"PK\x03\x04" + b"\x00" * 200,
}


def score(scorer):
    return scorer.score([colours(200, 100)], ["a cat"], [None])


# --------------------------------------------------------------------------------------------------------- ImageReward


def image_reward(path, files, **options) -> ImageRewardScorer:
    return ImageRewardScorer(str(path), **{"tokenizer": str(files[1]), "device": "cpu"} | options)


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_checkpoint_is_no_image_reward(image_reward_files, tmp_path, content):
    (tmp_path / "ImageReward.pt").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=r"ImageReward cannot be read from .*ImageReward\.pt"):
        image_reward(tmp_path / "ImageReward.pt", image_reward_files)


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_safetensors_file_is_no_image_reward(image_reward_files, tmp_path, content):
    (tmp_path / "ImageReward.safetensors").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=r"ImageReward cannot be read from .*ImageReward\.safetensors"):
        image_reward(tmp_path / "ImageReward.safetensors", image_reward_files)


def test_an_image_reward_that_is_not_there_is_named(image_reward_files, tmp_path):
    for name in ("none.pt", "none.safetensors", "no/such/folder.pt", ""):
        with pytest.raises(DriverError, match=f"ImageReward cannot be read from {re.escape(str(tmp_path / name))}"):
            image_reward(tmp_path / name, image_reward_files)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.999])
def test_a_download_of_image_reward_that_broke_off_is_no_checkpoint(image_reward_files, tmp_path, part):
    whole = image_reward_files[0].read_bytes()
    (tmp_path / "ImageReward.pt").write_bytes(whole[: int(len(whole) * part)])
    save_file(image_reward_tensors(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "ImageReward.safetensors").write_bytes(whole[: int(len(whole) * part)])
    for name in ("ImageReward.pt", "ImageReward.safetensors"):
        with pytest.raises(DriverError, match="ImageReward cannot be read"):
            image_reward(tmp_path / name, image_reward_files)


OTHER_THINGS = {
    "a list": lambda: [torch.zeros(2)],
    "a tensor": lambda: torch.zeros(2),
    "a whole module": lambda: torch.nn.Linear(2, 2),
    "numbers for names": lambda: {1: torch.zeros(2)},
    "numbers for tensors": lambda: dict.fromkeys(image_reward_tensors(), 1.0),
    "another model": lambda: {"features.0.weight": torch.zeros(64, 3, 11, 11)},
    "a list for a state dict": lambda: {"state_dict": [torch.zeros(2)]},
}


@pytest.mark.parametrize(
    "thing",
    OTHER_THINGS,
)
def test_a_checkpoint_of_something_else_is_no_image_reward(image_reward_files, tmp_path, thing):
    torch.save(OTHER_THINGS[thing](), tmp_path / "ImageReward.pt")
    with pytest.raises(DriverError, match="ImageReward"):
        score(image_reward(tmp_path / "ImageReward.pt", image_reward_files))


def without(*parts: str):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}


def replaced(**shapes: tuple[int, ...]):
    """Zeros of other shapes in place of the tensors whose names end in the given; __ stands for a dot."""
    ends = {name.replace("__", "."): shape for name, shape in shapes.items()}

    def change(tensors):
        found = dict(tensors)
        for end, shape in ends.items():
            (*names,) = (name for name in tensors if name.endswith(end))
            assert names, end
            found |= {name: torch.zeros(shape) for name in names}
        return found

    return change


IMAGE_REWARD_CHANGES = {
    "no vision": without("visual_encoder"),
    "no text": without("text_encoder"),
    "no layers": without("mlp."),
    "a block half there": without("blocks.1.mlp.fc2.weight"),
    "a text layer half there": without("encoder.layer.1.output.dense.weight"),
    "no biases": without("mlp.layers.0.bias"),
    "a norm gone": without("visual_encoder.norm."),
    "two numbers at the end": replaced(mlp__layers__7__weight=(2, 4), mlp__layers__7__bias=(2,)),
    "positions of another size": replaced(pos_embed=(1, 25, 128)),
    "patches that are none": replaced(patch_embed__proj__weight=(128, 192)),
    "a block of another width": replaced(blocks__0__mlp__fc1__weight=(40, 100)),
    "words of another width": replaced(word_embeddings__weight=(20, 80)),
    "layers of another width": replaced(mlp__layers__0__weight=(24, 60)),
    "layers that do not follow": replaced(mlp__layers__2__weight=(16, 20)),
    "text for another vision": replaced(crossattention__self__key__weight=(64, 100), crossattention__self__value__weight=(64, 100)),
}


@pytest.mark.parametrize(
    "change",
    IMAGE_REWARD_CHANGES,
)
def test_an_image_reward_whose_parts_do_not_fit_is_refused_and_gives_no_number(image_reward_files, tmp_path, change):
    tensors = IMAGE_REWARD_CHANGES[change](image_reward_tensors())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "ImageReward.safetensors")
    with pytest.raises(DriverError, match=r"ImageReward\.safetensors"):
        score(image_reward(tmp_path / "ImageReward.safetensors", image_reward_files))


@pytest.mark.parametrize(
    "number",
    ["nan", "inf", "-inf"],
)
def test_an_image_reward_that_is_no_finite_number_is_no_score(image_reward_files, tmp_path, number):
    torch.save(image_reward_tensors() | {"mlp.layers.7.bias": torch.tensor([float(number)])}, tmp_path / "ImageReward.pt")
    (found,) = score(image_reward(tmp_path / "ImageReward.pt", image_reward_files))
    assert found == Unscored(reason="the number is not finite")


def test_image_reward_without_its_tokenizer_says_so(image_reward_files, tmp_path):
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(DriverError, match=f"AutoTokenizer cannot be loaded from {re.escape(str(place))}"):
            image_reward(image_reward_files[0], image_reward_files, tokenizer=str(place))


def test_a_tokenizer_with_more_words_than_image_reward_is_refused(image_reward_files, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(20)), "a", "cat"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path)
    with pytest.raises(DriverError, match="okenizer"):
        score(image_reward(image_reward_files[0], image_reward_files, tokenizer=str(tmp_path)))


# --------------------------------------------------------------------------------------------------------- CLIP-FlanT5


@pytest.fixture
def flant5_copy(clip_flant5_folder, tmp_path):
    """A copy of CLIP-FlanT5 to be spoilt."""
    return shutil.copytree(clip_flant5_folder, tmp_path / "copy")


def flant5(folder, **options) -> ClipFlanT5Scorer:
    beside = {"vision": str(folder / "vision"), "tokenizer": str(folder / "tokenizer"), "device": "cpu"}
    return ClipFlanT5Scorer(str(folder / "model"), **beside | options)


def rewritten(folder, change) -> None:
    path = folder / "model" / "model.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def as_bin(folder, content: bytes) -> None:
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "pytorch_model.bin").write_bytes(content)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_checkpoint_is_no_clip_flant5(flant5_copy, kind, content):
    if kind == "bin":
        as_bin(flant5_copy, CONTENTS[content])
    else:
        (flant5_copy / "model" / "model.safetensors").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=f"cannot be .* from {re.escape(str(flant5_copy / 'model'))}"):
        flant5(flant5_copy)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.999])
def test_a_download_of_clip_flant5_that_broke_off_is_no_checkpoint(flant5_copy, part):
    path = flant5_copy / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DriverError, match="CLIP-FlanT5 cannot be read"):
        flant5(flant5_copy)
    torch.save(clip_flant5_tensors(), flant5_copy / "whole.pt")
    whole = (flant5_copy / "whole.pt").read_bytes()
    as_bin(flant5_copy, whole[: int(len(whole) * part)])
    with pytest.raises(DriverError, match="CLIP-FlanT5 cannot be read"):
        flant5(flant5_copy)


FLANT5_THINGS = {
    "a list": lambda: [torch.zeros(2)],
    "a whole module": lambda: torch.nn.Linear(2, 2),
    "another model": lambda: {"features.0.weight": torch.zeros(64, 3, 11, 11)},
}


@pytest.mark.parametrize("thing", FLANT5_THINGS)
def test_a_checkpoint_of_something_else_is_no_clip_flant5(flant5_copy, thing):
    torch.save(FLANT5_THINGS[thing](), flant5_copy / "other.pt")
    as_bin(flant5_copy, (flant5_copy / "other.pt").read_bytes())
    with pytest.raises(DriverError, match="CLIP-FlanT5"):
        flant5(flant5_copy)


@pytest.mark.parametrize(
    "gone", ["model", "vision", "tokenizer", "model/config.json", "model/model.safetensors", "vision/model.safetensors"]
)
def test_a_part_of_clip_flant5_that_is_not_there_is_named(flant5_copy, gone):
    place = flant5_copy / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(DriverError, match=re.escape(str(flant5_copy / gone.split("/", maxsplit=1)[0]))):
        flant5(flant5_copy)


FLANT5_CHANGES = {
    "no projector": without("mm_projector"),
    "half a projector": without("mm_projector.2.bias"),
    "no flant5": without("shared", "encoder", "decoder", "lm_head"),
    "no decoder": without("decoder."),
    "no output layer": without("lm_head"),
    "one weight gone": without("encoder.block.1.layer.0.SelfAttention.q.weight"),
    "an output layer of another width": replaced(lm_head__weight=(33, 30)),
    "a projector for another clip": replaced(mm_projector__0__weight=(16, 30)),
    "a projector for another flant5": replaced(mm_projector__2__weight=(30, 16), mm_projector__2__bias=(30,)),
    "a projector that does not follow": replaced(mm_projector__0__weight=(20, 32), mm_projector__0__bias=(20,)),
}


@pytest.mark.parametrize(
    "change",
    FLANT5_CHANGES,
)
def test_a_clip_flant5_whose_parts_do_not_fit_is_refused_and_gives_no_number(flant5_copy, change):
    rewritten(flant5_copy, FLANT5_CHANGES[change])
    with pytest.raises(DriverError, match=re.escape(str(flant5_copy / "model"))):
        score(flant5(flant5_copy))


CONFIGS = {
    "no json": "nothing",
    "a list": "[]",
    "empty": "{}",
    "words for numbers": '{"d_model": "many"}',
    "another width": {"d_model": 20},
    "another activation": {"feed_forward_proj": "gated-what-ever"},
    "more layers": {"num_layers": 3},
    "fewer layers": {"num_layers": 1, "num_decoder_layers": 1},
    "not gated": {"feed_forward_proj": "relu"},
}


@pytest.mark.parametrize(
    "config",
    CONFIGS,
)
def test_a_config_that_does_not_fit_clip_flant5_is_refused(flant5_copy, config):
    path, told = flant5_copy / "model" / "config.json", CONFIGS[config]
    if isinstance(told, dict):
        told = json.dumps(json.loads(path.read_text(encoding="utf-8")) | told)
    path.write_text(told, encoding="utf-8")
    with pytest.raises(DriverError, match=re.escape(str(flant5_copy / "model"))):
        score(flant5(flant5_copy))


def test_another_clip_than_that_of_clip_flant5_is_refused(flant5_copy, tmp_path):
    config = CLIPVisionConfig(hidden_size=48, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    CLIPVisionModel(config).save_pretrained(tmp_path / "vision")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vision")
    with pytest.raises(DriverError, match="48"):
        score(flant5(flant5_copy, vision=str(tmp_path / "vision")))


@pytest.mark.parametrize("layer", [4, -5, 99])
def test_a_layer_that_clip_does_not_have_is_refused(clip_flant5_folder, layer):
    with pytest.raises(DriverError, match="layer"):
        score(flant5(clip_flant5_folder, layer=layer))


def test_a_tokenizer_with_more_words_than_clip_flant5_is_refused(clip_flant5_folder, flant5_copy):
    path = flant5_copy / "tokenizer" / "tokenizer.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["model"]["vocab"]["cat"] = 2000
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(DriverError, match="okenizer"):
        score(flant5(flant5_copy))


def test_a_clip_flant5_of_numbers_that_are_not_finite_gives_no_score(flant5_copy):
    rewritten(flant5_copy, lambda tensors: tensors | {"lm_head.weight": torch.full((33, 16), float("nan"))})
    assert score(flant5(flant5_copy)) == [Unscored(reason="the number is not finite")]


# ---------------------------------------------------------------------------------------------------------------- NIQE


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_matlab_file_is_no_niqe(tmp_path, content):
    (tmp_path / "niqe.mat").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=r"NIQE.* cannot be read from .*niqe\.mat"):
        NiqeScorer(str(tmp_path / "niqe.mat"))


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_npz_file_is_no_niqe(tmp_path, content):
    (tmp_path / "niqe.npz").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=r"NIQE.* cannot be read from .*niqe\.npz"):
        NiqeScorer(str(tmp_path / "niqe.npz"))


def test_a_niqe_that_is_not_there_is_named(tmp_path):
    for name in ("none.mat", "none.npz", "no/such/folder.mat", ""):
        with pytest.raises(DriverError, match=f"NIQE.* cannot be read from {re.escape(str(tmp_path / name))}"):
            NiqeScorer(str(tmp_path / name))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", ["1 byte", "60 bytes", "127 bytes", "200 bytes", "half", "all but a byte"])
def test_a_download_of_niqe_that_broke_off_is_no_model(tmp_path, kept, compressed):
    from scipy.io import savemat

    numbers = np.random.default_rng(0).random((36, 36))
    savemat(tmp_path / "niqe.mat", {"pop_mu": numbers[:1], "pop_cov": numbers}, do_compression=compressed)
    whole = (tmp_path / "niqe.mat").read_bytes()
    size = {"half": len(whole) // 2, "all but a byte": -1}.get(kept) or int(kept.split()[0])
    (tmp_path / "niqe.mat").write_bytes(whole[:size])
    with pytest.raises(DriverError, match="NIQE"):
        NiqeScorer(str(tmp_path / "niqe.mat"))


@pytest.mark.parametrize("size", ["3", "100", "half"])
def test_an_npz_file_that_broke_off_is_no_niqe(tmp_path, size):
    np.savez(tmp_path / "niqe.npz", mean=np.zeros(36), covariance=np.eye(36))
    whole = (tmp_path / "niqe.npz").read_bytes()
    (tmp_path / "niqe.npz").write_bytes(whole[: len(whole) // 2 if size == "half" else int(size)])
    with pytest.raises(DriverError, match="NIQE"):
        NiqeScorer(str(tmp_path / "niqe.npz"))


def test_an_npz_file_with_bytes_changed_is_no_niqe(tmp_path):
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "whole.npz", mean=rng.random(36), covariance=rng.random((36, 36)))
    with zipfile.ZipFile(tmp_path / "whole.npz") as file:
        start = file.getinfo("covariance.npy").header_offset
    whole = bytearray((tmp_path / "whole.npz").read_bytes())
    whole[start + 60 : start + 4000] = b"\xff" * 3940
    (tmp_path / "niqe.npz").write_bytes(whole)
    with pytest.raises(DriverError, match="NIQE"):
        NiqeScorer(str(tmp_path / "niqe.npz"))


NIQES = {
    "other names": {"mu": np.zeros(36), "sigma": np.eye(36)},
    "nothing in it": {},
    "only a mean": {"mean": np.zeros(36)},
    "names of two formats": {"pop_mu": np.zeros(36), "cov_prisparam": np.eye(36)},
    "one scale": {"mean": np.zeros(18), "covariance": np.eye(18)},
    "a covariance of another width": {"mean": np.zeros(36), "covariance": np.eye(18)},
    "a mean of another width": {"mean": np.zeros(37), "covariance": np.eye(36)},
    "a covariance of three dimensions": {"mean": np.zeros(36), "covariance": np.zeros((36, 36, 1))},
    "objects": {"mean": np.array([None] * 36), "covariance": np.eye(36)},
    "words": {"mean": np.array(["a"] * 36), "covariance": np.eye(36)},
    "a covariance that is not finite": {"mean": np.zeros(36), "covariance": np.full((36, 36), np.nan)},
}


@pytest.mark.parametrize(
    "model",
    NIQES,
)
def test_a_file_of_something_else_is_no_niqe_and_gives_no_number(tmp_path, model):
    np.savez(tmp_path / "niqe.npz", **NIQES[model])
    with pytest.raises(DriverError, match=r"niqe\.npz"):
        score(NiqeScorer(str(tmp_path / "niqe.npz")))


def test_a_message_on_another_niqe_says_what_is_wrong(tmp_path):
    np.savez(tmp_path / "niqe.npz", mean=np.zeros(36), covariance=np.eye(18))
    with pytest.raises(DriverError, match="18"):
        NiqeScorer(str(tmp_path / "niqe.npz"))


def test_a_single_array_is_no_niqe(tmp_path):
    np.save(tmp_path / "niqe.npy", np.eye(36))
    with pytest.raises(DriverError, match=r"niqe\.npy"):
        NiqeScorer(str(tmp_path / "niqe.npy"))


def test_a_structure_of_matlab_in_place_of_numbers_is_no_niqe(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "niqe.mat", {"pop_mu": {"a": 1, "b": 2}, "pop_cov": np.eye(36)})
    with pytest.raises(DriverError, match=r"niqe\.mat"):
        NiqeScorer(str(tmp_path / "niqe.mat"))


# ------------------------------------------------------------------------------------------------------------- BRISQUE


@pytest.mark.parametrize("which", ["model", "ranges"])
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_file_of_libsvm_is_no_brisque(brisque_files, tmp_path, which, content):
    files = dict(zip(("model", "ranges"), brisque_files, strict=True)) | {which: tmp_path / "odd"}
    (tmp_path / "odd").write_bytes(CONTENTS[content])
    with pytest.raises(DriverError, match=r"BRISQUE cannot be read from .*odd"):
        BrisqueScorer(str(files["model"]), ranges=str(files["ranges"]))


def test_a_brisque_whose_files_are_missing_or_swapped_is_refused(brisque_files, tmp_path):
    model, ranges = map(str, brisque_files)
    for one, other in (
        (str(tmp_path / "none"), ranges),
        (model, str(tmp_path / "none")),
        (str(tmp_path), ranges),
        (ranges, model),
        (model, model),
    ):
        with pytest.raises(DriverError, match=f"BRISQUE cannot be read from {re.escape(one)} and {re.escape(other)}"):
            BrisqueScorer(one, ranges=other)


def lines_changed(old: str, new: str):
    def change(text: str) -> str:
        assert re.search(old, text, flags=re.MULTILINE), old
        return re.sub(old, new, text, count=1, flags=re.MULTILINE)

    return change


MODELS = {
    "of classes": lines_changed("epsilon_svr", "c_svc"),
    "linear": lines_changed("kernel_type rbf", "kernel_type linear"),
    "without gamma": lines_changed(r"^gamma.*\n", ""),
    "without rho": lines_changed(r"^rho.*\n", ""),
    "words for gamma": lines_changed(r"^gamma.*$", "gamma much"),
    "without vectors": lambda text: text[: text.index("SV\n") + 3],
    "without SV": lines_changed(r"^SV\n", ""),
    "words for a weight": lines_changed(r"^60\.0 ", "sixty "),
    "a pair without colon": lines_changed(" 7:", " 7 "),
    "broken off after a vector": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "broken off in a vector": lambda text: text[: text.rindex(" 20:")],
    "broken off in a number": lambda text: text[:-6],
    "broken off at a colon": lambda text: text[: text.rindex(":") + 1],
    "of 37 features": lambda text: text.replace(" \n", " 37:0.5 \n"),
    "from feature 0 on": lambda text: text.replace(" 1:", " 0:0.5 1:"),
}


@pytest.mark.parametrize(
    "model",
    MODELS,
)
def test_a_regression_that_is_no_brisque_is_refused_and_gives_no_number(tmp_path, model):
    path, ranges = write_brisque(tmp_path, **BRISQUE)
    path.write_text(MODELS[model](path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DriverError, match="BRISQUE cannot be read"):
        score(BrisqueScorer(str(path), ranges=str(ranges)))


RANGES = {
    "to other bounds": lines_changed("^-1 1$", "0 1"),
    "without the line x": lines_changed(r"^x\n", ""),
    "of targets too": lines_changed(r"^x\n", "y\n0 1\n0 100\nx\n"),
    "one feature gone": lines_changed(r"^17 .*\n", ""),
    "broken off": lambda text: text[: len(text) // 2],
    "broken off in a number": lambda text: text[:-5],
    "of 37 features": lambda text: text + "37 0.0 1.0\n",
    "one number in a line": lines_changed(r"^17 .*$", "17 0.5"),
    "words for numbers": lines_changed(r"^17 .*$", "17 low high"),
    "of one value": lines_changed(r"^17 .*$", "17 0.5 0.5"),
}


@pytest.mark.parametrize(
    "ranges",
    RANGES,
)
def test_ranges_that_are_not_brisques_are_refused_and_give_no_number(tmp_path, ranges):
    model, path = write_brisque(tmp_path, **BRISQUE)
    path.write_text(RANGES[ranges](path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DriverError, match="BRISQUE cannot be read"):
        score(BrisqueScorer(str(model), ranges=str(path)))


def test_files_of_brisque_may_end_their_lines_as_windows_does(brisque_files, tmp_path):
    for path in brisque_files:
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    one = score(BrisqueScorer(str(brisque_files[0]), ranges=str(brisque_files[1])))
    assert score(BrisqueScorer(str(tmp_path / "allmodel"), ranges=str(tmp_path / "allrange"))) == one


def test_a_model_of_numbers_that_are_not_finite_gives_no_score(tmp_path):
    np.savez(tmp_path / "niqe.npz", mean=np.full(36, np.nan), covariance=np.eye(36))
    files = [write_brisque(tmp_path, **BRISQUE | {"gamma": float("nan")})]
    scorers = [NiqeScorer(str(tmp_path / "niqe.npz")), BrisqueScorer(str(files[0][0]), ranges=str(files[0][1]))]
    for scorer in scorers:
        assert score(scorer) == [Unscored(reason="the number is not finite")]
