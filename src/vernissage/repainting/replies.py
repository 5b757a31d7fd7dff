"""The shapes in which a language model answers along the repainting road, and which features are asked of what."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator

MOST_OBJECTS = 5
"""Objects asked for at most, as in the authors' released code."""

ObjectType = Literal["person", "animal", "object"]


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Overall(_Reply):
    """Answer to `repainting/overall`."""

    style: str = ""
    lighting: str = ""
    colour_palette: str = ""
    composition: str = ""


class NamedObject(_Reply):
    """One object of `Objects`."""

    name: str
    type: ObjectType = "object"

    @field_validator("type", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        """A type that is none of ours, such as "vehicle", is an object."""
        name = value.strip().lower() if isinstance(value, str) else value
        return name if name in get_args(ObjectType) else "object"


class Objects(_Reply):
    """Answer to `repainting/objects`."""

    objects: list[NamedObject] = []


class _Features(_Reply):
    count: str = ""
    colour: str = ""
    material: str = ""
    position: str = ""
    texture: str = ""


class ObjectFeatures(_Features):
    """Answer to `repainting/features` about an object; empty is what cannot be seen."""

    function: str = ""
    state: str = ""


class AnimalFeatures(_Features):
    """Answer to `repainting/features` about an animal."""

    posture: str = ""
    species: str = ""
    expression: str = ""


class PersonFeatures(_Features):
    """Answer to `repainting/features` about a person."""

    posture: str = ""
    expression: str = ""
    clothing: str = ""


FEATURES: dict[str, type[BaseModel]] = {"object": ObjectFeatures, "animal": AnimalFeatures, "person": PersonFeatures}


class Relations(_Reply):
    """Answer to `repainting/relations`."""

    relations: list[str] = []
