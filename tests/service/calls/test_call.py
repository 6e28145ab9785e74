import time

import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from convd.service.calls.call import Call
from convd.service.errors import CallerGoneError, DeadlineExceededError, UnavailableError
from convd.service.inference.service import EncodedImage, InferenceService, PreparedImage
from convd.service.lifecycle.catalog import Catalog
from convd.service.servables.servable import Servable
from tests.service.batching.simulation import engine


def test_a_call_is_wanted_until_it_ends() -> None:
    Call().check_wanted()
    Call(deadline=time.monotonic() + 60).check_wanted()
    with pytest.raises(DeadlineExceededError):
        Call(deadline=time.monotonic()).check_wanted()
    gone = Call()
    gone.cancellation.cancel()
    with pytest.raises(CallerGoneError):
        gone.check_wanted()


def test_no_image_is_decoded_for_a_caller_who_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inference = InferenceService(Catalog(), max_image_pixels=100, max_images_per_request=10)
    call = Call()
    decoded = []

    def decode_and_leave(_servable: Servable, source: EncodedImage, _call: Call) -> None:
        decoded.append(source.data)
        call.cancellation.cancel()

    monkeypatch.setattr(inference, "_prepare_one", decode_and_leave)
    images = [EncodedImage(b"first"), EncodedImage(b"second")]
    with pytest.raises(CallerGoneError):
        inference.prepare(_idle_servable(), images, call)
    assert decoded == [b"first"]


def test_no_image_is_decoded_for_a_request_that_would_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inference = InferenceService(Catalog(), max_image_pixels=100, max_images_per_request=10)
    decoded: list[bytes] = []
    monkeypatch.setattr(
        inference, "_prepare_one", lambda _servable, source, _call: decoded.append(source.data)
    )
    servable = _idle_servable()
    servable.batcher.close()
    with pytest.raises(UnavailableError):
        inference.prepare(servable, [EncodedImage(b"image")], Call())
    assert decoded == []
    # What costs nothing to prepare is refused by the batcher itself.
    inference.prepare(servable, [PreparedImage(b"image")], Call())
    assert decoded == [b"image"]


def _idle_servable() -> Servable:
    """A servable of which nothing is needed but its batcher."""
    servable = object.__new__(Servable)
    servable.batcher = Batcher(Engine(engine, max_batch_size=4), max_queue_size=4)
    return servable
