"""`shadow` in a model's `config.yaml`: which version is compared with which, and how much."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from convd.artifact.frozen import FrozenModel

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
"""A name for a version."""


class KeptPictures(StrEnum):
    """What is kept of the pictures that differ most, in memory."""

    NONE = "none"
    THUMBNAIL = "thumbnail"
    ORIGINAL = "original"


class ShadowSettings(FrozenModel):
    """A share of the answers of one version is compared with those of another.

    The candidate answers only the callers who name it.

    Attributes:
        live: Label of the version that answers.
        candidate: Label of the version that it is compared with.
        share: How many of the pictures are compared, if there is time: over 0, up to 1.
        pictures: What is kept of the pictures that differ most; besides, always their checksums.
    """

    live: Label = "stable"
    candidate: Label = "canary"
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1
    pictures: KeptPictures = KeptPictures.NONE
