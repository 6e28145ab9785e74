"""Flags that say how pictures are prepared for a network."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, get_args

import click

from convd.artifact.preprocessing import (
    CenterCrop,
    Color,
    Interpolation,
    Letterbox,
    PadToSquare,
    ResizeKind,
    ResizeShorterSide,
    ResizeTo,
)
from convd.artifact.scaling import BLACK
from convd.commands.option_types import Numbers, Rgb, Size
from convd.export.sources.description import GivenDescription

_OPTIONS = (
    click.option("--resize", type=Size(), help="Shorter side (256), or height x width (224x224)."),
    click.option("--crop", type=Size(), help="Cut this from the middle: 224, or 224x224."),
    click.option(
        "--fit",
        type=click.Choice(["letterbox", "pad"]),
        help="Keep the aspect ratio: scale, then fill the rest, or pad to a square, then scale.",
    ),
    click.option("--fill", type=Rgb(), help="Colour for --fit [default: black]."),
    click.option(
        "--crop-share",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="SHARE",
        help="Keep this share of each side, such as 0.875, before the resize.",
    ),
    click.option("--interpolation", type=click.Choice(get_args(Interpolation))),
    click.option("--channel-order", type=click.Choice(["RGB", "BGR", "L"]), help="L is grayscale."),
    click.option(
        "--exif-orientation/--no-exif-orientation",
        default=None,
        help="Turn pictures upright as their EXIF tag says.",
    ),
    click.option(
        "--icc-profile/--no-icc-profile",
        default=None,
        help="Convert pictures with an ICC profile to sRGB.",
    ),
    click.option(
        "--background",
        type=Rgb(),
        help="Lay pictures with alpha on this colour [default: drop alpha].",
    ),
    click.option(
        "--grayscale/--no-grayscale",
        default=None,
        help="Turn pictures gray, in three equal channels.",
    ),
    click.option("--invert/--no-invert", default=None, help="Exchange light and dark."),
    click.option("--mean", type=Numbers(), help="Per channel, of pixels scaled to 0..1."),
    click.option("--std", type=Numbers(), help="Per channel, of pixels scaled to 0..1."),
)


def picture_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these flags."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), function)


def given_description(**given: Any) -> GivenDescription:  # noqa: ANN401
    """What the flags say of a network; click has checked each value by its option's type.

    Raises:
        click.UsageError: They do not go together.
    """
    size, fit, fill, crop = (given.pop(name) for name in ("resize", "fit", "fill", "crop"))
    resize = resize_of(size, fit, fill)
    return GivenDescription(resize=resize, crop=crop_of(crop), **given)


def resize_of(
    size: Sequence[int] | None, fit: str | None = None, fill: Color | None = None
) -> ResizeKind | None:
    """The resize step for a size; by default a single number is the length of the shorter side.

    Args:
        size: One number, or height and width.
        fit: `letterbox` or `pad` keeps the aspect ratio; a single number is then both sides.
        fill: The colour of what is added.

    Raises:
        click.UsageError: They do not go together.
    """
    if size is None and fit is not None:
        raise click.UsageError(f"--fit {fit} needs a size: give --resize 224x224 too")
    if fit is None and fill is not None:
        raise click.UsageError("--fill is the colour of --fit letterbox or --fit pad: give one too")
    if size is None:
        return None
    color = fill or BLACK
    if fit == "letterbox":
        return Letterbox(height=size[0], width=size[-1], color=color)
    if fit == "pad":
        if size[0] != size[-1]:
            raise click.UsageError(
                "--fit pad makes squares: give --resize one size, or take --fit letterbox"
            )
        return PadToSquare(size=size[0], color=color)
    if len(size) == 1:
        return ResizeShorterSide(size=size[0])
    return ResizeTo(height=size[0], width=size[1])


def crop_of(size: Sequence[int] | None) -> CenterCrop | None:
    """The crop step for a size; a single number is both height and width."""
    return CenterCrop(height=size[0], width=size[-1]) if size else None
