"""Parts of speech by spaCy, on pipelines that are written here in spaCy's own format."""

import sys

import pytest
import spacy

from vernissage.drivers.tag_spacy import load_tagger
from vernissage.errors import BadInput, MissingExtra
from vernissage.wiring import DriverConfig, load_driver


@pytest.fixture
def pipeline(tmp_path):
    """A folder as `spacy download` would bring it, whose rules know a few words."""
    nlp = spacy.blank("en")
    rules = nlp.add_pipe("attribute_ruler")
    for words, part in ((["can", "'s"], "AUX"), (["you", "me", "it"], "PRON"), (["cat", "roof"], "NOUN"), (["make"], "VERB")):
        rules.add([[{"LOWER": {"IN": words}}]], {"POS": part})
    nlp.to_disk(tmp_path / "rules")
    return str(tmp_path / "rules")


def test_each_word_has_its_part_of_speech_and_signs_are_marks(pipeline):
    tag = load_tagger(pipeline)
    assert tag(["Can you make a cat?", "", "it's  roof!"]) == [
        [("Can", "AUX"), ("you", "PRON"), ("make", "VERB"), ("a", ""), ("cat", "NOUN"), ("?", "PUNCT")],
        [],
        [("it", "PRON"), ("'s", "AUX"), ("roof", "NOUN"), ("!", "PUNCT")],
    ]


def test_a_pipeline_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="en_nowhere_sm") as caught:
        load_tagger("en_nowhere_sm")
    assert "spacy download en_nowhere_sm" in str(caught.value)


def test_a_pipeline_without_parts_of_speech_is_refused(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(BadInput, match="no parts of speech"):
        load_tagger(str(tmp_path / "blank"))


@pytest.mark.parametrize("name", ["numpy", "no/such/folder"])
def test_what_is_no_pipeline_is_named(name):
    with pytest.raises(BadInput, match=name):
        load_tagger(name)


def test_without_spacy_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "vernissage.drivers.tag_spacy")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"vernissage\[spacy\]"):
        load_driver("tagger", DriverConfig.model_validate({"driver": "spacy", "pipeline": "en_core_web_sm"}))
