"""What Triton's client can ask with asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton_aio

from tests.interop.subject import Subject


async def check_asyncio(subject: Subject) -> None:
    async with triton_aio.InferenceServerClient(subject.address) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata(subject.model)).name == subject.model
        results = await asyncio.gather(
            *(
                client.infer(subject.model, [make(triton_aio)])
                for make in (subject.image_input, subject.jpeg_input)
                for _ in range(10)
            )
        )
        for result in results:
            np.testing.assert_allclose(
                result.as_numpy("probabilities"), subject.expected(), atol=1e-6
            )


async def check_asyncio_stream(subject: Subject) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for make in (subject.image_input, subject.jpeg_input):
            yield {"model_name": subject.model, "inputs": [make(triton_aio)]}

    async with triton_aio.InferenceServerClient(subject.address) as client:
        answers = [answer async for answer in client.stream_infer(requests())]
    assert len(answers) == 2
    for result, error in answers:
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("probabilities"), subject.expected())


async def check_asyncio_cancellation(subject: Subject) -> None:
    async with triton_aio.InferenceServerClient(subject.waiting_address) as client:
        task = asyncio.create_task(client.infer(subject.model, [subject.image_input(triton_aio)]))
        await asyncio.sleep(0.3)
        assert task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
    raise AssertionError("the cancelled request was answered")
