"""One look at a picture answers every question as a pass of its own would."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vernissage.errors import DriverError
from vernissage.judging.nn.model import Question, load_backbone
from vernissage.local.adapters import add_adapter, linear_layers, merge_adapter, use_adapter
from vernissage.local.branches import Branch, pack

tokens = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@pytest.fixture(scope="module", params=["internvl", "qwen25_vl", "qwen2_vl"])
def model(request):
    return load_backbone(str(request.getfixturevalue(f"{request.param}_folder")), device=torch.device("cpu"))


QUESTIONS = [
    [Question("How good?"), Question("Does it show a cat by the sea?"), Question("Is it red?", "yes"), Question("No?", "no")],
    [Question("Is it night or is it day, and where?", "a long answer")],
    [Question("?")] * 3,
]


@torch.inference_mode()
def test_states_and_answers_are_those_of_separate_passes(model, noise_picture):
    images = [noise_picture(1), noise_picture(2, (64, 24)), noise_picture(3)]
    together = model.look(images, QUESTIONS)
    apart = [model.look([image], [[question]]) for image, several in zip(images, QUESTIONS, strict=True) for question in several]
    assert torch.allclose(together.hidden, torch.cat([look.hidden for look in apart]), atol=2e-5)
    assert torch.allclose(together.spoken, torch.cat([look.spoken for look in apart]), atol=2e-5)
    assert together.packed.answers.tolist() == [token for look in apart for token in look.packed.answers.tolist()]


@torch.inference_mode()
def test_states_are_those_of_the_plain_model_without_any_mask_of_ours(model, noise_picture):
    question = Question("Is it red?")
    found = model.look([noise_picture(1)], [[Question("Something else first"), question]])
    reader = model.reader
    inputs = reader.inputs([reader.before + question.text + reader.after], [[noise_picture(1)]])
    plain = model.backbone.model(**inputs).last_hidden_state
    assert torch.allclose(found.hidden[1], plain[0, -1], atol=2e-5)


@torch.inference_mode()
def test_the_probability_of_yes_is_that_of_the_next_word(model, noise_picture):
    look = model.look([noise_picture(1)], [[Question("Is it red?"), Question("Is it blue?")]])
    logits = model.backbone.lm_head(look.hidden)
    yes, no = (model.reader.ids(word)[0] for word in ("yes", "no"))
    assert torch.allclose(model.yes(look.hidden), logits[:, [yes, no]].softmax(dim=-1)[:, 0])


@given(
    st.lists(st.tuples(tokens, st.lists(st.tuples(tokens, st.lists(st.integers(1, 9), max_size=3)), min_size=1, max_size=4)), min_size=1)
)
def test_a_token_sees_its_trunk_and_its_own_branch_up_to_itself_and_nothing_else(batch):
    trunks = [trunk for trunk, _ in batch]
    branches = [[Branch(question, answer) for question, answer in several] for _, several in batch]
    packed = pack(trunks, branches, pad=0)
    count = 0
    for row, (trunk, several) in enumerate(zip(trunks, branches, strict=True)):
        start = len(trunk)
        for branch in several:
            whole = [*trunk, *branch.question, *branch.answer]
            for offset in range(len(branch.question) + len(branch.answer)):
                place = start + offset
                seen = (packed.mask[row, 0, place] == 0).nonzero()[:, 0]
                assert packed.input_ids[row, seen].tolist() == whole[: len(trunk) + offset + 1]
                assert packed.positions[row, seen].tolist() == list(range(len(trunk) + offset + 1))
            assert packed.ends[count].tolist() == [row, start + len(branch.question) - 1]
            start += len(branch.question) + len(branch.answer)
            count += 1
    assert packed.answers.tolist() == [token for several in branches for branch in several for token in branch.answer]


def test_words_that_the_tokenizer_takes_for_the_end_of_a_message_are_broken_up(model):
    end = model.reader.tokenizer.eos_token
    inside = model.reader.branch(Question(f"a cat {end} and more"))
    assert inside.question.count(model.reader.tokenizer.eos_token_id) == model.reader.branch(Question("a cat")).question.count(
        model.reader.tokenizer.eos_token_id
    )


@torch.inference_mode()
def test_an_adapter_changes_the_states_only_while_it_is_in_use_and_merging_keeps_them(internvl_folder, noise_picture):
    model = load_backbone(str(internvl_folder), device=torch.device("cpu"))
    ask = [noise_picture(1)], [[Question("How good?")]]
    bare = model.look(*ask).hidden
    add_adapter(model.backbone, "first", parts=("vision", "language"), rank=2, alpha=4)
    assert torch.allclose(model.look(*ask).hidden, bare, atol=1e-6), "a fresh adapter does nothing"
    for name, tensor in model.backbone.named_parameters():
        if "lora_B" in name:
            tensor.fill_(0.1)
    use_adapter(model.backbone, "first")
    adapted = model.look(*ask).hidden
    assert (adapted - bare).abs().max() > 1e-3
    use_adapter(model.backbone, None)
    assert torch.allclose(model.look(*ask).hidden, bare, atol=1e-6)
    use_adapter(model.backbone, "first")
    merge_adapter(model.backbone, "first")
    assert torch.allclose(model.look(*ask).hidden, adapted, atol=1e-5)


def test_adapters_sit_on_every_linear_layer_of_their_part_and_on_no_other(model):
    vision, language = (linear_layers(model.backbone, (part,)) for part in ("vision", "language"))
    assert vision
    assert language
    assert not set(vision) & set(language)
    assert all("language_model" in name for name in language)
    assert not any("lm_head" in name for name in [*vision, *language])


def test_a_model_of_an_unknown_family_is_named():
    with pytest.raises(DriverError, match="Linear has no vision part"):
        linear_layers(torch.nn.Linear(2, 2), ("vision",))
