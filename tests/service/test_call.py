import time

import pytest

from service.call import Call
from service.errors import CallerGoneError, DeadlineExceededError
from service.inference import EncodedImage, InferenceService
from service.lifecycle.catalog import Catalog
from service.servable import Servable


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
        inference.prepare(None, images, call)  # type: ignore[arg-type]
    assert decoded == [b"first"]
