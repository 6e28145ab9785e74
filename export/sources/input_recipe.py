"""The recipe that a network's own input suggests."""

from pydantic import ValidationError

from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.export.errors import SourceError


def recipe_of_input(height: int, width: int, channels: int) -> Preprocessing:
    """Squeeze pictures to what the network takes.

    Args:
        height: Rows of the input.
        width: Its columns.
        channels: 1 for grayscale; of three, the input does not say the order.

    Raises:
        SourceError: The input is larger than an artifact's may be.
    """
    try:
        resize = ResizeTo(height=height, width=width)
        if channels == 1:
            return Preprocessing(resize=resize, channel_order="L")
        return Preprocessing(resize=resize)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SourceError(f"the input has {height} x {width} pixels: {reason}") from error
