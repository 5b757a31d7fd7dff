"""The understanding tree: a picture in words, from the whole down to the features of each object."""

from pydantic import BaseModel, ConfigDict, Field


class SceneObject(BaseModel):
    """One object, or one group of equal objects, in a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What it is, for example "cat"."""
    type: str = "object"
    """Decides which features are asked for: person, animal or object."""
    features: dict[str, str] = Field(default_factory=dict)
    """Feature name to value, for example colour to red."""


class UnderstandingTree(BaseModel):
    """The image understanding tree (IUT) of ImageRepainter, section "Image Understanding"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caption: str
    """The whole picture in a sentence."""
    style: str = ""
    lighting: str = ""
    colour_palette: str = ""
    composition: str = ""
    objects: tuple[SceneObject, ...] = ()
    relations: tuple[str, ...] = ()
    """Short phrases, for example "cat left of car"."""
