"""Where the pixels of a prepared image lie in the picture that was sent.

Every step of a recipe keeps lines parallel to the sides, so the way from a picture to the network's
input is a scale and a shift for each axis, behind a turn by the picture's EXIF orientation. The way
back undoes them: crop, letterbox, padding, scaling and the turn.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.preprocessing import Preprocessing, central_box, sizes_of
from convd.artifact.resizing import Letterbox, PadToSquare
from convd.artifact.scaling import ImageSize

ORIENTATION_TAG = 0x0112
UPRIGHT = 1

_TURNS: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""What turns a stored picture upright, by EXIF orientation: exchange rows and columns, flip the
rows, flip the columns."""


class AxisMap(NamedTuple):
    """One axis: `prepared = scale * upright + shift`, in pixels whose edges are whole numbers.

    Attributes:
        scale: Prepared pixels for each pixel of the upright picture.
        shift: Where the upright picture's first edge lies.
    """

    scale: float
    shift: float


class Placement(NamedTuple):
    """How one picture lies in its prepared image.

    Attributes:
        stored: The size of the picture as it was sent.
        orientation: The EXIF orientation that the recipe undoes; 1 for none.
        rows: The vertical axis of the upright picture.
        columns: The horizontal one.
        prepared: The size of the prepared image.
    """

    stored: ImageSize
    orientation: int
    rows: AxisMap
    columns: AxisMap
    prepared: ImageSize


def orientation_of(picture: Image.Image) -> int:
    """A picture's EXIF orientation, 1 to 8; 1 where it has none."""
    value = picture.getexif().get(ORIENTATION_TAG, UPRIGHT)
    return value if value in _TURNS else UPRIGHT


def place(width: int, height: int, recipe: Preprocessing, orientation: int = UPRIGHT) -> Placement:
    """Say how a picture lies in its prepared image.

    Args:
        width: Columns of the picture as it was sent.
        height: Its rows.
        recipe: How it is prepared.
        orientation: Its EXIF orientation, which counts if the recipe turns pictures upright.
    """
    stored = ImageSize(height, width)
    orientation = orientation if recipe.apply_exif_orientation else UPRIGHT
    if _TURNS[orientation][0]:
        width, height = height, width
    left = top = 0
    if recipe.crop_share is not None:
        left, top, right, bottom = central_box(width, height, recipe.crop_share)
        width_kept, height_kept = right - left, bottom - top
    else:
        width_kept, height_kept = width, height
    sizes = sizes_of(width, height, recipe)
    resize = recipe.resize
    padding_left = padding_top = later_left = later_top = 0
    if isinstance(resize, PadToSquare):
        padding_left = (sizes.padded.width - width_kept) // 2
        padding_top = (sizes.padded.height - height_kept) // 2
    scale_x = sizes.scaled.width / sizes.padded.width
    scale_y = sizes.scaled.height / sizes.padded.height
    if isinstance(resize, Letterbox):
        later_left = round((sizes.final.width - sizes.scaled.width) / 2)
        later_top = round((sizes.final.height - sizes.scaled.height) / 2)
    if recipe.center_crop is not None:
        cut = recipe.center_crop.box(sizes.final.width, sizes.final.height)
        later_left, later_top = later_left - cut[0], later_top - cut[1]
    return Placement(
        stored,
        orientation,
        AxisMap(scale_y, (padding_top - top) * scale_y + later_top),
        AxisMap(scale_x, (padding_left - left) * scale_x + later_left),
        recipe.output_size,
    )


def on_picture(
    heat: NDArray[np.float32], placement: Placement, size: ImageSize | None = None
) -> NDArray[np.float32]:
    """Lay a map of the prepared image over the picture that was sent.

    Args:
        heat: float32 `[rows, columns]`, cells of equal size that cover the prepared image.
        placement: How the picture lies in it.
        size: The size of the result; None for the picture's own.

    Returns:
        float32 `[height, width]`, bilinear between the centres of the cells; NaN where the network
        does not see the picture.
    """
    stored = placement.stored
    size = size or stored
    exchange, flip_rows, flip_columns = _TURNS[placement.orientation]
    upright = ImageSize(size.width, size.height) if exchange else size
    full = ImageSize(stored.width, stored.height) if exchange else stored
    rows = _cells(upright.height, full.height, placement.rows, placement.prepared.height)
    columns = _cells(upright.width, full.width, placement.columns, placement.prepared.width)
    result = _sample(heat, rows, columns)
    # What turned the picture upright, undone in the opposite order.
    if flip_columns:
        result = result[:, ::-1]
    if flip_rows:
        result = result[::-1]
    return np.ascontiguousarray(result.T if exchange else result)


def _cells(count: int, full: int, axis: AxisMap, prepared: int) -> NDArray[np.float64]:
    """Where the centres of pixels lie in the prepared image, 0 to 1; NaN outside of it."""
    centres = (np.arange(count) + 0.5) * (full / count)
    places = (axis.scale * centres + axis.shift) / prepared
    places[(places < 0) | (places > 1)] = np.nan
    return places


def _sample(
    heat: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    over_rows = _interpolate(heat.astype(np.float64), rows)
    result: NDArray[np.float32] = _interpolate(over_rows.T, columns).T.astype(np.float32)
    return result


def _interpolate(values: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear between the centres of the first axis's cells; constant beyond the outer ones."""
    outside = np.isnan(places)
    position = np.clip(np.where(outside, 0, places) * len(values) - 0.5, 0, len(values) - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, len(values) - 1)
    share = (position - lower)[:, np.newaxis]
    result: NDArray[np.float64] = values[lower] * (1 - share) + values[upper] * share
    result[outside] = np.nan
    return result
