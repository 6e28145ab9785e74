"""Accuracy is the best judge: each prediction of the user's network against the artifact's."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.answers import predictions
from convd.artifact.decoding import decode_image
from convd.artifact.evidence import Agreement
from convd.artifact.graph_contract import OutputArrays, Outputs, join_parts
from convd.artifact.manifest import Task
from convd.artifact.preprocessing import Preprocessing, prepare_image
from convd.export.encoding import encode
from convd.export.errors import ParityError
from convd.export.progress import Advance
from convd.export.proof.recipe import reference_pixels
from convd.export.proof.reference import Reference, as_rows
from convd.export.sources.labelled_pictures import LabelledPictures, Pictures
from convd.runtime.session import Session

_BATCH_SIZE = 32
_ORIENTATION_TAG = 0x0112
_LOST = {"icc_profile", "transparency"}


def served_answers(
    session: Session, pictures: Pictures, recipe: Preprocessing, advance: Advance
) -> OutputArrays:
    """What is served, by the server's own path: a file's bytes, the decoder, the session.

    Returns:
        Probabilities and logits, float32 `[pictures, labels]`.
    """
    answers = []
    for chosen in _batches(len(pictures)):
        images = [prepare_image(_read_back(pictures.picture(index)), recipe) for index in chosen]
        answers.append(session.run(np.stack(images)))
        advance(len(chosen))
    return Outputs(*join_parts(answers))


def reference_outputs(
    reference: Reference, pictures: Pictures, recipe: Preprocessing, advance: Advance
) -> NDArray[np.float32]:
    """What the user's network answers, with the recipe that was written a second time.

    Returns:
        float32 `[pictures, outputs]`.
    """
    rows = []
    for chosen in _batches(len(pictures)):
        images = np.stack([reference_pixels(pictures.picture(index), recipe) for index in chosen])
        rows.append(as_rows(reference.outputs(images)))
        advance(len(chosen))
    return np.concatenate(rows)


def check_agreement(
    served: NDArray[np.floating],
    wanted: NDArray[np.float64],
    examples: LabelledPictures,
    rounding: float,
) -> Agreement:
    """Refuse any difference of a prediction that rounding does not explain.

    Args:
        served: Probabilities of what is served, `[pictures, labels]`.
        wanted: Those of the user's network.
        examples: The pictures.
        rounding: Largest difference of a probability that rounding explains.

    Raises:
        ParityError: A prediction differs; the text names the picture.
    """
    predicted, expected = (predictions(each, examples.task) for each in (served, wanted))
    different = np.flatnonzero((predicted != expected).any(axis=1))
    explained = [index for index in different if _is_a_tie(wanted[index], examples.task, rounding)]
    unexplained = sorted(set(different.tolist()) - set(explained))
    if unexplained:
        first = unexplained[0]
        gap = float(np.abs(served[first] - wanted[first]).max())
        raise ParityError(
            f"the artifact predicts otherwise than the network on {len(unexplained)} of "
            f"{len(examples)} pictures ({examples.name}); the first is number {first}, where a "
            f"probability differs by {gap:.2g}; nothing was published"
        )
    right = (expected & examples.truth).any(axis=1)
    if examples.task == "multilabel":
        right = (expected == examples.truth).all(axis=1)
    return Agreement(
        examples=len(examples),
        differing_by_rounding=len(explained),
        share_right=float(right.mean()),
    )


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, _BATCH_SIZE):
        yield range(start, min(start + _BATCH_SIZE, count))


def _is_a_tie(row: NDArray[np.float64], task: Task, rounding: float) -> bool:
    if task == "multilabel":
        return bool((np.abs(row - 0.5) <= rounding).any())
    second, first = np.sort(row)[-2:]
    return bool(first - second <= 2 * rounding)


def _read_back(picture: Image.Image) -> Image.Image:
    """Through a file and the decoder; what a file would not keep stays as it is."""
    turned = picture.getexif().get(_ORIENTATION_TAG, 1) != 1
    if picture.mode not in ("L", "RGB") or turned or picture.info.keys() & _LOST:
        return picture
    return decode_image(encode(picture, "BMP"))
