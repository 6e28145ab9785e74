"""The base class of the records that are written to disk."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable record that refuses unknown keys, so a misspelt key cannot be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
