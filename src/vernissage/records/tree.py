"""The understanding tree: a picture in words, from the whole down to the features of each object."""

from pydantic import BaseModel, ConfigDict, Field

from vernissage.records.plan import Text


class SceneObject(BaseModel):
    """One object, or one group of equal objects, in a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text
    """What it is, for example "cat"."""
    type: Text = "object"
    """Decides which features are asked for: person, animal or object."""
    features: dict[Text, Text] = Field(default_factory=dict)
    """Feature name to value, for example colour to red; what could not be seen is left out."""


class UnderstandingTree(BaseModel):
    """The image understanding tree (IUT) of ImageRepainter, section "Image Understanding".

    Example:
        >>> star = SceneObject(name="star", features={"count": "2", "colour": "yellow"})
        >>> print(UnderstandingTree(caption="Stars over the sea.", style="neon", objects=(star,)).outline())
        caption: Stars over the sea.
        style: neon
        star: colour yellow, count 2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    caption: Text
    """The whole picture in a sentence."""
    style: Text = ""
    lighting: Text = ""
    colour_palette: Text = ""
    composition: Text = ""
    objects: tuple[SceneObject, ...] = ()
    relations: tuple[Text, ...] = ()
    """Short phrases, for example "cat left of car"."""

    def overall(self) -> dict[str, str]:
        """The features of the whole picture that are known, by name."""
        named = {
            "style": self.style,
            "lighting": self.lighting,
            "colour palette": self.colour_palette,
            "composition": self.composition,
        }
        return {name: value for name, value in named.items() if value}

    def outline(self) -> str:
        """The tree as lines of text, to be read by people and language models; features by name, whatever order they came in."""
        lines = [f"caption: {self.caption}", *(f"{name}: {value}" for name, value in self.overall().items())]
        for thing in self.objects:
            lines.append(
                ": ".join(part for part in (thing.name, ", ".join(" ".join(pair) for pair in sorted(thing.features.items()))) if part)
            )
        if self.relations:
            lines.append(f"relations: {', '.join(self.relations)}")
        return "\n".join(lines)
