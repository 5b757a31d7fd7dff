"""Parts of speech by spaCy's pipelines, for telling requests from prompts and words that tell what things are like."""

from collections.abc import Sequence

import spacy

from vernissage.errors import BadInput
from vernissage.ports import Tagger

_UNUSED = ["parser", "ner", "lemmatizer", "senter"]


def load_tagger(pipeline: str) -> Tagger:
    """The parts of speech that a spaCy pipeline tells.

    Args:
        pipeline: Name of an installed one, such as "en_core_web_sm", or a folder.

    Raises:
        BadInput: There is no such pipeline, or it tells no parts of speech.
    """
    try:
        nlp = spacy.load(pipeline, exclude=_UNUSED)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:  # some languages need packages of their own
        raise BadInput(
            f"The spaCy pipeline {pipeline!r} cannot be loaded: {error}",
            hint=f"Run: python -m spacy download {pipeline}, or give a folder.",
        ) from error

    def tag(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
        return [[(token.text, "PUNCT" if token.is_punct else token.pos_) for token in doc if not token.is_space] for doc in nlp.pipe(texts)]

    if not any(part not in ("", "PUNCT") for words in tag(["Can you make me a cat?"]) for _, part in words):
        raise BadInput(f"The spaCy pipeline {pipeline!r} tells no parts of speech.", hint="Take one with a tagger, such as en_core_web_sm.")
    return tag
