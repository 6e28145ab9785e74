"""What a recipe does to pictures, fact by fact, and where each was taken from."""

from collections.abc import Callable, Iterator

from convd.artifact.manifest import Fact
from convd.artifact.preprocessing import Preprocessing
from convd.artifact.scaling import describe_color


def recipe_facts(recipe: Preprocessing, origin: Callable[[str], str]) -> Iterator[Fact]:
    """Each fact of a recipe; steps that few recipes have are named where they are taken.

    Args:
        recipe: What is done to pictures.
        origin: Where a thing was taken from, by the name of its flag without dashes before it.
    """
    crop = recipe.center_crop
    rows = {
        "resize": ("resize", recipe.resize.describe()),
        "crop": ("crop", f"{crop.height} x {crop.width}" if crop else "none"),
        "interpolation": ("interpolation", recipe.interpolation),
        "channel-order": ("channel order", recipe.channel_order),
        "exif-orientation": (
            "EXIF orientation",
            "applied" if recipe.apply_exif_orientation else "ignored",
        ),
    }
    if recipe.apply_icc_profile:
        rows["icc-profile"] = ("ICC profile", "converted to sRGB")
    if recipe.background is not None:
        rows["background"] = ("alpha", f"laid on {describe_color(recipe.background)}")
    if recipe.grayscale:
        rows["grayscale"] = ("grayscale", "the same in every channel")
    if recipe.invert:
        rows["invert"] = ("inversion", "light and dark exchanged")
    if recipe.crop_share is not None:
        rows["crop-share"] = ("crop share", f"{recipe.crop_share:g} of each side, before scaling")
    for flag, (subject, value) in rows.items():
        yield Fact(subject=subject, value=value, origin=origin(flag))
