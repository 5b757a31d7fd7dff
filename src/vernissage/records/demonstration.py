"""A demonstration: a plan that somebody painted, and how it was received. What planners learn from."""

from pydantic import BaseModel, ConfigDict, Field

from vernissage.records.plan import Plan, Text


class Demonstration(BaseModel):
    """A plan with its origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text = Field(min_length=1)
    """Where it comes from, such as "civitai:123" or a file's name; one of a kind."""
    plan: Plan
    popularity: int = 0
    """Likes, hearts and the like together."""
    nsfw: bool = False
    base_model: Text = ""
    """Such as "SDXL 1.0"; empty where nobody says."""
    picture: Text = ""
    """Address or path of the picture, which starts at the file's folder until it is read; empty where there is none."""
    look: Text = ""
    """The same for pictures that look alike: a blurhash or a hash of the content."""
