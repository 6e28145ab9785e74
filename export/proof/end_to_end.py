"""The whole path, from the bytes of a file to probabilities, against the user's network."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.export.errors import ParityError
from convd.export.proof.recipe import reference_pixels
from convd.export.proof.reference import Images, network_input
from convd.export.source import TrainedNetwork

_RECIPE_DIFFERENCE = 1e-4


def check_recipe(source: TrainedNetwork, decoded: list[Image.Image], prepared: Images) -> None:
    """Compare pixels as the server prepares them with those of the second recipe.

    Where the weights come from a library, its own recipe is compared as well.

    Args:
        source: Whose recipe it is.
        decoded: Pictures.
        prepared: The same, prepared as the server does it.

    Raises:
        ParityError: A pixel differs.
    """
    again = np.stack([reference_pixels(each, source.preprocessing) for each in decoded])
    if again.shape != prepared.shape or (again != prepared).any():
        raise ParityError(
            "convd prepares pictures otherwise than its own reference does: this is a fault of "
            "convd; nothing was published"
        )
    if source.library_recipe is None:
        return
    mode = "L" if source.preprocessing.channels == 1 else "RGB"
    wanted = np.stack([np.asarray(source.library_recipe(each.convert(mode))) for each in decoded])
    found = network_input(prepared, source.normalization)
    difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf
    if not difference <= _RECIPE_DIFFERENCE:
        raise ParityError(
            f"pictures are prepared otherwise than by {source.provenance.source}'s own library: "
            f"normalised pixels differ by {difference:.2g}; nothing was published"
        )


def check_golden(
    served: NDArray[np.float64], wanted: NDArray[np.float64], limit: float, source: str
) -> None:
    """Compare what is served for the golden files with what the user's network answers.

    Raises:
        ParityError: A probability differs by more than the limit.
    """
    difference = float(np.abs(served - wanted).max()) if served.shape == wanted.shape else np.inf
    if not difference <= limit:
        raise ParityError(
            f"from file to answer, a probability differs from that of {source} by "
            f"{difference:.2g}, more than {limit:.0e}; nothing was published"
        )
