"""Explanations, as a client asks for them and gets them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from convd.client.images import ImageLike, read_image
from convd.protos.convd.v1 import classification_pb2 as pb

Method = Literal["auto", "class-activation", "occlusion"]
"""How evidence is found; `auto` is class activation mapping where the model allows it."""

_METHODS: dict[Method, "pb.ExplanationMethod.ValueType"] = {
    "auto": pb.EXPLANATION_METHOD_UNSPECIFIED,
    "class-activation": pb.EXPLANATION_METHOD_CLASS_ACTIVATION,
    "occlusion": pb.EXPLANATION_METHOD_OCCLUSION,
}


OnProgress = Callable[[int, int], object]
"""Called with how many runs of the network are done, and of how many."""


def ignore_progress(_done: int, _total: int) -> None:
    """For a caller that does not want to know."""


@dataclass(frozen=True)
class Explanation:
    """Where in an image the evidence for a class lies.

    Attributes:
        model: The model that answered.
        version: Its version.
        method: How it was found.
        label: The class.
        probability: Its probability for the whole image.
        heat: Rows of numbers over the image as it was sent, scaled down so that its longer side has
            at most 512 pixels; NaN where preprocessing cuts the image off.
        overlay_png: The image with the heat over it, as PNG.
    """

    model: str
    version: int
    method: Method
    label: str
    probability: float
    heat: list[list[float]]
    overlay_png: bytes


def explain_request(
    image: ImageLike, spec: pb.ModelSpec, label: str | None, method: Method
) -> pb.ExplainRequest:
    """Make the request.

    Raises:
        InvalidImageError: The image cannot be read.
        ValueError: There is no such method.
    """
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}: choose one of {', '.join(_METHODS)}")
    request = pb.ExplainRequest(model=spec, image=read_image(image), method=_METHODS[method])
    if label is not None:
        request.label = label
    return request


def read_explanation(message: pb.Explanation) -> Explanation:
    """Read the answer."""
    heat = message.heat_map
    values, width = list(heat.values), heat.width
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    by_number = {number: method for method, number in _METHODS.items()}
    return Explanation(
        message.model_name,
        message.model_version,
        by_number[message.method],
        message.class_probability.label,
        message.class_probability.probability,
        rows,
        message.overlay_png,
    )
