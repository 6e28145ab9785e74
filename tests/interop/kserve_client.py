"""KServe's own Python client, unchanged, over REST and gRPC, against a server at two addresses.

Runs in the environment of requirements-kserve.txt beside it, without convd's packages.
"""

import argparse
import asyncio
import warnings
from typing import Any

import httpx
import numpy as np

warnings.simplefilter("ignore")

from kserve import (  # noqa: E402
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput  # noqa: E402


def request(model: str, shape: tuple[int, ...], *, binary: bool, output: bool) -> InferRequest:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    tensor = InferInput("image", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    wanted = [RequestedOutput("probabilities", parameters={"binary_data": output})]
    return InferRequest(model, [tensor], request_id="7", request_outputs=wanted)


def probabilities(answer: InferResponse) -> Any:
    [output] = answer.outputs
    assert (output.name, answer.id) == ("probabilities", "7")
    return output.as_numpy()


async def check(grpc_address: str, http_address: str, model: str) -> None:
    base = f"http://{http_address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as rest:
        assert await rest.is_server_live(base)
        assert await rest.is_server_ready(base)
        assert await rest.is_model_ready(base, model)
        assert not await rest.is_model_ready(base, "no-such-model")
        print("ok  health over REST", flush=True)
        async with httpx.AsyncClient() as plain:
            described = (await plain.get(f"{base}/v2/models/{model}")).json()
        shape = tuple(next(one["shape"] for one in described["inputs"] if one["name"] == "image"))
        answers = []
        for binary in (False, True):
            for output in (False, True):
                asked = request(model, shape[1:], binary=binary, output=output)
                answers.append(probabilities(await rest.infer(base, asked, model_name=model)))
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])
        print("ok  infer over REST, in JSON and binary", flush=True)
        wrong = InferRequest(model, [InferInput("image", [1, 2], "UINT8", data=[1, 2])])
        try:
            await rest.infer(base, wrong, model_name=model)
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 400
            assert "dimensions" in str(error)
        else:
            raise AssertionError("a wrong shape was not refused")
        print("ok  refusals over REST carry their text", flush=True)
    async with InferenceGRPCClient(grpc_address) as grpc:
        assert await grpc.is_server_ready()
        assert await grpc.is_model_ready(model)
        asked = request(model, shape[1:], binary=True, output=True)
        over_grpc = await grpc.infer(asked)
        [output] = [one for one in over_grpc.outputs if one.name == "probabilities"]
        np.testing.assert_array_equal(output.as_numpy(), answers[0])
        print("ok  the same over gRPC", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grpc_address")
    parser.add_argument("http_address")
    parser.add_argument("model")
    asyncio.run(check(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
