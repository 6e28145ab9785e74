"""Explains an answer: where in a picture the evidence for a class lies.

Class activation mapping reads it from the answer itself, where the network's head allows it and its
maps are fine enough: exact, in one pass. Any other network is asked again and again with a part of
the picture covered, at low priority, so that no request for an answer waits for it.
"""

import enum
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.class_activation import class_activation_map, shows_places
from convd.artifact.colors import to_mode
from convd.artifact.errors import InvalidImageError
from convd.artifact.geometry import Placement, on_picture, orientation_of, place
from convd.artifact.graph_contract import ACTIVATION_MAPS, NO_EXTRAS, Outputs
from convd.artifact.heat_map import overlay, to_png
from convd.artifact.scaling import ImageSize
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.inference.occlusion import excess, occluded, patches, sensitivity
from convd.service.inference.preparation import PixelImage, decode_and_prepare
from convd.service.lifecycle.catalog import Catalog, VersionChoice
from convd.service.quoting import quote
from convd.service.servables.servable import Servable

MAX_SIDE = 512
"""Longer side of the map and of the picture that are sent, in pixels."""

_SUBMISSION_SECONDS = 0.05


class Method(enum.Enum):
    """How evidence is found."""

    CLASS_ACTIVATION = "class activation mapping"
    OCCLUSION = "occlusion"


@dataclass(frozen=True)
class Question:
    """What is to be explained.

    Attributes:
        choice: The version to ask.
        source: The picture.
        label: The label whose evidence is sought; None for the most probable one.
        index: Its index, in place of its name.
        method: How; None for class activation mapping where the network allows it and its
            maps are fine enough (`shows_places`), otherwise occlusion.
    """

    choice: VersionChoice
    source: bytes | PixelImage
    label: str | None = None
    index: int | None = None
    method: Method | None = None


class Progress(NamedTuple):
    """How far an explanation is: runs of the network."""

    done: int
    total: int


class Explanation(NamedTuple):
    """Where the evidence for a label lies.

    Attributes:
        servable: What answered.
        method: How it was found.
        place: Index of the label.
        probability: Its probability for the whole picture.
        heat: float32 `[height, width]` over the picture that was sent, scaled so that its longer
            side is at most `MAX_SIDE`; NaN where the network does not see it. Class activation
            mapping: the share of the logit that a place adds. Occlusion: how much the logit, in
            excess of the mean of the others where the classes exclude each other, drops when the
            place is covered.
        picture: The picture with the map over it, as PNG, of the same size.
    """

    servable: Servable
    method: Method
    place: int
    probability: float
    heat: NDArray[np.float32]
    picture: bytes


@dataclass
class _Seen:
    """What is kept of a decoded picture."""

    small: Image.Image = field(default_factory=lambda: Image.new("RGB", (1, 1)))
    size: tuple[int, int] = (1, 1)
    orientation: int = 1

    def look(self, picture: Image.Image) -> None:
        self.size = picture.size
        self.orientation = orientation_of(picture)
        # Thinned out first: what is kept beside a large picture is small in every mode.
        thin = picture.resize(_within(picture.size, 4 * MAX_SIDE), Image.Resampling.NEAREST)
        size = _within(picture.size, MAX_SIDE)
        self.small = to_mode(thin, "RGB").resize(size, Image.Resampling.BOX)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A size in proportion whose longer side has at most so many pixels."""
    share = min(1.0, longest / max(size))
    width, height = (max(1, round(side * share)) for side in size)
    return width, height


class Explainer:
    """Explains the answers of servables; independent of any transport.

    Args:
        catalog: The servables.
        max_image_pixels: Largest picture that is decoded, height x width.
        budget: The memory for pictures that are decoded.
    """

    def __init__(self, catalog: Catalog, max_image_pixels: int, budget: DecodeBudget) -> None:
        self._catalog = catalog
        self._max_image_pixels = max_image_pixels
        self._budget = budget
        self._drawing = threading.Lock()

    def explain(self, call: Call, question: Question) -> Iterator[Progress | Explanation]:
        """Explain one answer.

        Yields:
            Progress while the network is asked, and at last the explanation.

        Raises:
            InvalidRequestError: The picture, the label or the method cannot be used.
            ServiceError: As for a request for an answer.
        """
        with self._catalog.acquire(question.choice) as servable:
            call.model, call.version = servable.name, servable.version_text
            method = _method(servable, question.method)
            index = _known_index(servable, question)
            seen = _Seen()
            try:
                image = decode_and_prepare(
                    servable, question.source, call, self._max_image_pixels, self._budget, seen.look
                )
            except InvalidImageError as error:
                servable.metrics.images_refused.inc()
                raise InvalidRequestError(str(error)) from error
            by_class = method is Method.CLASS_ACTIVATION
            answer = servable.batcher.submit(
                image[np.newaxis],
                deadline=call.deadline,
                cancellation=call,
                trace=call.trace,
                extras=frozenset({ACTIVATION_MAPS.name}) if by_class else NO_EXTRAS,
            )
            outputs = Outputs(*answer.outputs)
            (probabilities,) = outputs.probabilities
            index = int(probabilities.argmax()) if index is None else index
            probability = float(probabilities[index])
            if by_class:
                assert servable.class_weights is not None  # noqa: S101
                assert outputs.activation_maps is not None  # noqa: S101
                (maps,) = outputs.activation_maps
                heat = class_activation_map(maps, servable.class_weights[index])
            else:
                exclusive = servable.manifest.task == "multiclass"
                (whole,) = excess(outputs.logits, index, exclusive=exclusive)
                covered: list[float] = []
                places = patches(*image.shape[:2])
                for batch in occluded(image, places, _rows_of_a_submission(servable)):
                    yield Progress(len(covered), len(places))
                    result = servable.batcher.submit(
                        batch, deadline=call.deadline, cancellation=call, priority=Priority.LOW
                    )
                    logits = Outputs(*result.outputs).logits
                    covered += excess(logits, index, exclusive=exclusive).tolist()
                yield Progress(len(covered), len(places))
                heat = sensitivity(float(whole), np.array(covered, np.float32))
            # One at a time, so that the other cores are for those who ask for answers.
            with self._drawing:
                on_sent, picture = _drawn(heat, seen, servable)
            yield Explanation(servable, method, index, probability, on_sent, picture)


def _method(servable: Servable, wanted: Method | None) -> Method:
    possible = servable.class_weights is not None
    if wanted is Method.CLASS_ACTIVATION and not possible:
        # Says why.
        servable.extra_bytes(frozenset({ACTIVATION_MAPS.name}))
    if wanted is not None:
        return wanted
    described = servable.manifest.features
    shape = None if described is None else described.map_shape
    by_maps = possible and shape is not None and shows_places(shape[1:])
    return Method.CLASS_ACTIVATION if by_maps else Method.OCCLUSION


def _known_index(servable: Servable, question: Question) -> int | None:
    labels = servable.manifest.labels
    if question.label is not None:
        if question.label not in labels:
            raise InvalidRequestError(
                f"version {servable.version} of {servable.name} has no label "
                f"'{quote(question.label)}': GetModel lists them"
            )
        return labels.index(question.label)
    if question.index is not None and not 0 <= question.index < len(labels):
        raise InvalidRequestError(
            f"index is {question.index}: the labels have the indices 0 to {len(labels) - 1}"
        )
    return question.index


def _rows_of_a_submission(servable: Servable) -> int:
    """As many as the network runs in a moment, so that progress is told often."""
    short = [cost.rows for cost in servable.costs if cost.seconds <= _SUBMISSION_SECONDS]
    return min(max(short, default=1), servable.settings.max_batch_size)


def _drawn(
    heat: NDArray[np.float32], seen: _Seen, servable: Servable
) -> tuple[NDArray[np.float32], bytes]:
    placement: Placement = place(
        *seen.size, servable.manifest.preprocessing, orientation=seen.orientation
    )
    size = ImageSize(seen.small.height, seen.small.width)
    on_sent = on_picture(heat, placement, size)
    return on_sent, to_png(overlay(seen.small, on_sent), seen.orientation)
