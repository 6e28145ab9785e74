"""The base of every record that is written to disk with an artifact."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable record that refuses unknown keys, so a typing error cannot pass as a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")
