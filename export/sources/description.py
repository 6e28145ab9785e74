"""What has to be known of a network besides its weights."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from pydantic import ValidationError

from convd.artifact.manifest import Fact, Normalization
from convd.artifact.preprocessing import (
    CenterCrop,
    ChannelOrder,
    Color,
    Interpolation,
    Preprocessing,
    ResizeKind,
)
from convd.export.errors import SourceError
from convd.export.graph.network_output import Activation
from convd.export.sources.conventions import refuse_other_conventions
from convd.export.sources.recipe_facts import recipe_facts

_FIELDS = {
    "exif-orientation": "apply_exif_orientation",
    "icc-profile": "apply_icc_profile",
}
"""Fields of a recipe whose flags are called otherwise."""


@dataclass(frozen=True)
class GivenDescription:
    """What the user says of a network; None where it is left to the source.

    Attributes:
        labels: Class names in the order of the outputs.
        resize: How pictures are scaled.
        crop: What is cut from their middle.
        interpolation: The resampling filter.
        channel_order: Order of the channels, or `L` for one.
        exif_orientation: Whether pictures are turned upright first.
        icc_profile: Whether pictures with an ICC profile are converted to sRGB.
        background: The colour that pictures with alpha are laid on.
        grayscale: Whether pictures are turned gray, in equal channels.
        invert: Whether light and dark are exchanged.
        crop_share: What is kept of each side before pictures are scaled, 0 to 1.
        mean: Mean per channel of pixels scaled to 0..1; one value is taken for all.
        std: Standard deviation, likewise.
        activation: What has still to be applied to the outputs.
    """

    labels: tuple[str, ...] | None = None
    resize: ResizeKind | None = None
    crop: CenterCrop | None = None
    interpolation: Interpolation | None = None
    channel_order: ChannelOrder | None = None
    exif_orientation: bool | None = None
    icc_profile: bool | None = None
    background: Color | None = None
    grayscale: bool | None = None
    invert: bool | None = None
    crop_share: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    activation: Activation = "auto"

    def refuse_for(self, source: str) -> None:
        """Refuse what is given where the source has said it all.

        Raises:
            SourceError: Something is given.
        """
        given = [
            field.name
            for field in fields(self)
            if getattr(self, field.name) is not None and field.name != "activation"
        ]
        if given:
            flag = "--" + given[0].replace("_", "-")
            raise SourceError(f"{source} already says what {flag} says: leave {flag} out")


class Known(NamedTuple):
    """What a source knows by itself.

    Attributes:
        origin: Where it knows it from, such as `the file`.
        labels: Class names.
        preprocessing: Its recipe.
        normalization: Its normalisation.
        takes_pixels: Whether the network takes uint8 pixels, so that nothing normalises them.
        origins: Where single facts come from, by the names of their flags without dashes, where
            that is not `origin`.
    """

    origin: str = "default"
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    normalization: Normalization | None = None
    takes_pixels: bool = False
    origins: Mapping[str, str] = {}

    def origin_of(self, flag: str) -> str:
        """Where the fact comes from that a flag, without dashes, would give."""
        return self.origins.get(flag, self.origin)


class Description(NamedTuple):
    """What is known of a network in the end, and from where."""

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    normalization: Normalization | None
    facts: tuple[Fact, ...]


def describe(given: GivenDescription, known: Known | None = None) -> Description:
    """Combine what is given with what the source knows; what is given wins.

    Args:
        given: What the user says.
        known: What the source knows.

    Raises:
        SourceError: Something is missing or contradicts itself; the text names the flag.
    """
    known = known or Known()
    labels = given.labels or known.labels
    if labels is None:
        raise SourceError(
            "the names of the classes are unknown: give --labels cat,dog,... or --labels FILE with "
            "one name a line, in the order of the outputs"
        )
    _check_labels(labels)
    recipe = _preprocessing(given, known.preprocessing)
    if known.takes_pixels:
        if given.mean or given.std:
            raise SourceError(
                "the network takes uint8 pixels and normalises them itself: leave --mean and --std "
                "out"
            )
        normalization = None
    else:
        normalization = _normalization(given, known.normalization, recipe.channels)
    facts = _facts(given, known, labels, recipe, normalization)
    return Description(labels, recipe, normalization, facts)


def _facts(
    given: GivenDescription,
    known: Known,
    labels: tuple[str, ...],
    recipe: Preprocessing,
    normalization: Normalization | None,
) -> tuple[Fact, ...]:
    """Each fact and where it comes from."""
    shown = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
    known_fields = known.preprocessing.model_fields_set if known.preprocessing else set()

    def origin(flag: str) -> str:
        if getattr(given, flag.replace("-", "_")) is not None:
            return f"--{flag}"
        if flag == "crop":
            return "--resize" if given.resize else known.origin_of(flag)
        is_known = _FIELDS.get(flag, flag.replace("-", "_")) in known_fields
        return known.origin_of(flag) if is_known else "default"

    labels_origin = "--labels" if given.labels else known.origin_of("labels")
    rows = [("labels", f"{len(labels)}: {shown}", labels_origin)]
    if normalization is None:
        rows.append(("normalisation", "by the network itself", known.origin))
    else:
        for subject, values, by_flag in (
            ("mean", normalization.mean, given.mean),
            ("std", normalization.std, given.std),
        ):
            text = ", ".join(f"{value:.6g}" for value in values)
            rows.append((subject, text, f"--{subject}" if by_flag else known.origin_of(subject)))
    labels_fact, *others = (Fact(subject=a, value=b, origin=c) for a, b, c in rows)
    return (labels_fact, *recipe_facts(recipe, origin), *others)


def _check_labels(labels: tuple[str, ...]) -> None:
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise SourceError(
            f"labels must be distinct; repeated: {', '.join(repeated[:5])}: give each class a name "
            "of its own with --labels"
        )
    if not all(label.strip() for label in labels):
        raise SourceError("a label is empty: give each class a name with --labels")


def _preprocessing(given: GivenDescription, known: Preprocessing | None) -> Preprocessing:
    resize = given.resize or (known.resize if known else None)
    if resize is None:
        raise SourceError(
            "the size of the pictures is unknown: give --resize 224x224 to squeeze them to it, or "
            "--resize 256 --crop 224 to scale the shorter side and cut the middle"
        )
    values: dict[str, object] = known.model_dump() if known else {}
    values["resize"] = resize
    if given.resize or given.crop:
        values["center_crop"] = given.crop
    said = {
        "interpolation": given.interpolation,
        "channel_order": given.channel_order,
        "apply_exif_orientation": given.exif_orientation,
        "apply_icc_profile": given.icc_profile,
        "background": given.background,
        "grayscale": given.grayscale,
        "invert": given.invert,
        "crop_share": given.crop_share,
    }
    values |= {name: value for name, value in said.items() if value is not None}
    try:
        return Preprocessing.model_validate(values)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SourceError(f"{reason} (--resize and --crop)") from error


def _normalization(
    given: GivenDescription, known: Normalization | None, channels: int
) -> Normalization:
    mean = given.mean or (known.mean if known else None)
    std = given.std or (known.std if known else None)
    if mean is None or std is None:
        raise SourceError(
            "what was done to the pixels in training is unknown: give --mean and --std, such as "
            "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225, or --mean 0 --std 1 where pixels "
            "were scaled to 0..1 and no more"
        )
    for flag, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            raise SourceError(
                f"{flag} has {len(values)} values for {channels} channels: give one, or one for "
                "each channel"
            )
    if min(std) <= 0:
        raise SourceError("--std must be positive")
    refuse_other_conventions(mean, std)
    return Normalization(
        mean=mean if len(mean) == channels else mean * channels,
        std=std if len(std) == channels else std * channels,
    )
