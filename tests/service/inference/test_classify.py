"""The use case on a real servable, without a transport."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import ImageArray, Preprocessing, prepare_image
from convd.artifact.repository import ModelRepository
from convd.runtime.cores import CoreBudget
from convd.service.calls.call import Call
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    UnavailableError,
)
from convd.service.inference import preparation
from convd.service.inference.preparation import ImageSource, PixelImage
from convd.service.inference.service import Classified, InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionChoice, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.servables.servable import Servable
from convd.service.settings import ServerSettings
from tests.support import png
from tests.tiny_artifact import HEIGHT, WIDTH, publish_tiny

SHAPE = (HEIGHT, WIDTH, 3)
PETS = VersionChoice("pets")


@pytest.fixture(scope="module")
def servable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    settings = ServerSettings.model_validate(
        {"repository": root, "intra_op_threads": 1, "load_memory_bytes": 0}
    )
    load = ServableLoader(ModelRepository(root), settings, Metrics(), CoreBudget(1))
    servable = load("pets", 1, ModelConfiguration())
    yield servable
    # Every request has let go of it, whatever it ended in.
    assert servable.drain(0.0)
    servable.close()


@pytest.fixture(scope="module")
def inference(servable: Servable) -> InferenceService:
    catalog = Catalog()
    catalog.put(VersionStatus("pets", 1, State.AVAILABLE, servable=servable))
    return InferenceService(
        catalog, max_image_pixels=10_000, max_images_per_request=16, decode_budget_bytes=2**26
    )


def answer(classified: Classified) -> Classified:
    return classified


def picture(value: int) -> NDArray[np.uint8]:
    return np.full(SHAPE, value, np.uint8)


def source(kind: str, value: int) -> ImageSource:
    pixels = picture(value)
    sources: dict[str, ImageSource] = {
        "file": png(Image.fromarray(pixels)),
        "pixels": PixelImage(pixels.tobytes(), *SHAPE),
        "prepared": np.frombuffer(pixels.tobytes(), np.uint8),
        "no file": b"not an image",
        "short": np.zeros(5, np.uint8),
        "none": None,
    }
    return sources[kind]


GOOD = ("file", "pixels", "prepared")
KINDS = st.sampled_from([*GOOD, "no file", "short", "none"])


@given(images=st.lists(st.tuples(KINDS, st.integers(0, 255)), min_size=1, max_size=8))
def test_each_image_succeeds_or_fails_alone(
    inference: InferenceService, images: list[tuple[str, int]]
) -> None:
    sources = [source(kind, value) for kind, value in images]
    good = [value for kind, value in images if kind in GOOD]
    if not good:
        with pytest.raises(InvalidRequestError):
            inference.classify(Call(), PETS, sources, answer)
        return
    classified = inference.classify(Call(), PETS, sources, answer)
    bad = [index for index, (kind, _) in enumerate(images) if kind not in GOOD]
    assert sorted(classified.refusals) == bad
    assert np.array_equal(classified.images, np.stack([picture(value) for value in good]))
    assert (
        classified.outputs.probabilities.shape == classified.outputs.logits.shape == (len(good), 3)
    )
    assert classified.outputs.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_what_is_wrong_with_each_image_is_said(inference: InferenceService) -> None:
    sources = [source(kind, 7) for kind in ("none", "file", "short", "no file")]
    refusals = inference.classify(Call(), PETS, sources, answer).refusals
    assert refusals[0] == "the image has no source: set encoded, pixels or prepared"
    assert refusals[2] == "a prepared image of this model has 4 x 6 x 3 = 72 bytes, not 5"
    assert "send a JPEG, PNG, WebP or BMP" in refusals[3]


def test_where_partial_answers_are_not_allowed_one_image_fails_the_request(
    inference: InferenceService,
) -> None:
    sources = [source("file", 7), source("none", 7)]
    with pytest.raises(InvalidRequestError, match="image 1, counted from 0: the image has no"):
        inference.classify(Call(), PETS, sources, answer, allow_partial=False)


def test_prepared_images_must_have_the_shape_of_the_model(inference: InferenceService) -> None:
    rows = np.zeros((2, *SHAPE), np.uint8)
    assert inference.classify(Call(), PETS, rows, answer).images is rows
    for shape in ((2, HEIGHT, WIDTH), (1, WIDTH, HEIGHT, 3), (1, *SHAPE, 1)):
        with pytest.raises(InvalidRequestError, match=r"this model takes \[rows, 4, 6, 3\]"):
            inference.classify(Call(), PETS, np.zeros(shape, np.uint8), answer)


@pytest.mark.parametrize(("images", "text"), [(0, "at least one"), (17, "over the limit of 16")])
def test_the_number_of_images_is_bounded(
    inference: InferenceService, images: int, text: str
) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        inference.classify(Call(), PETS, [b""] * images, answer)


def test_the_call_learns_which_version_answers(inference: InferenceService) -> None:
    call = Call()
    inference.classify(call, PETS, [source("file", 1)], answer)
    assert (call.model, call.version) == ("pets", "1")
    unknown = Call()
    with pytest.raises(ModelNotFoundError):
        inference.classify(unknown, VersionChoice("birds"), [source("file", 1)], answer)
    assert (unknown.model, unknown.version) == ("", "")


def test_a_timeout_ends_a_request_before_its_deadline(inference: InferenceService) -> None:
    call = Call(deadline=time.monotonic() + 60)
    with pytest.raises(DeadlineExceededError):
        inference.classify(call, PETS, [source("file", 1)], answer, timeout_seconds=1e-9)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that have been decoded."""
    files: list[bytes] = []

    def watched(data: bytes, **options: Any) -> Image.Image:
        files.append(data)
        return decode_image(data, **options)

    monkeypatch.setattr(preparation, "decode_image", watched)
    return files


def test_no_image_is_decoded_for_a_caller_who_has_gone(
    inference: InferenceService, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call()
    files = [png(Image.fromarray(picture(value))) for value in (1, 2)]

    def leave(picture: Image.Image, recipe: Preprocessing) -> ImageArray:
        call.cancel()
        return prepare_image(picture, recipe)

    monkeypatch.setattr(preparation, "prepare_image", leave)
    with pytest.raises(CallerGoneError):
        inference.classify(call, PETS, files, answer)
    assert decoded == files[:1]


def test_no_image_is_decoded_for_a_request_that_would_be_refused(
    servable: Servable, inference: InferenceService, decoded: list[bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise UnavailableError("full")

        patch.setattr(servable.batcher, "check", refuse)
        with pytest.raises(UnavailableError):
            inference.classify(Call(), PETS, [source("file", 1)], answer)
        # Images that cost nothing to prepare are for the batcher itself to refuse.
        inference.classify(Call(), PETS, [source("prepared", 1)], answer)
    assert decoded == []


def test_an_answer_that_no_message_could_hold_is_refused_before_any_work(
    servable: Servable, decoded: list[bytes]
) -> None:
    catalog = Catalog()
    catalog.put(VersionStatus("pets", 1, State.AVAILABLE, servable=servable))
    service = InferenceService(
        catalog,
        max_image_pixels=10_000,
        max_images_per_request=16,
        decode_budget_bytes=2**26,
        max_answer_bytes=servable.answer_bytes(0) * 3,
    )
    files = [source("file", value) for value in range(4)]

    def classify(top_k: int) -> Classified:
        return service.classify(
            Call(), PETS, files, answer, answer_bytes=lambda one: one.answer_bytes(top_k)
        )

    with pytest.raises(InvalidRequestError, match="fewer classes with top_k"):
        classify(0)
    assert decoded == []
    assert len(classify(1).outputs.probabilities) == 4
