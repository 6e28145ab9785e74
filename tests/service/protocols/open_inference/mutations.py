"""Random mutations of valid requests, as hypothesis strategies."""

from collections.abc import Callable

from hypothesis import strategies as st

from convd.protos.inference import grpc_service_pb2 as pb
from tests.service.protocols.open_inference.requests import (
    png,
    raw_encoded_request,
    raw_image_request,
    typed_encoded_request,
    typed_image_request,
)

NUMBERS = st.one_of(
    st.integers(-2, 9), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**31, 2**32 + 1])
)
NAMES = st.one_of(
    st.sampled_from(["image", "encoded_image", "logits", "probabilities", "pets", "1", ""]),
    st.text(max_size=80),
)
DATATYPES = st.one_of(st.sampled_from(["UINT8", "BYTES", "FP32", "BF16", "uint8"]), st.text())
PARAMETER_NAMES = st.sampled_from(
    ["priority", "timeout", "classification", "shared_memory_region", "sequence_id", "x", ""]
)
PARAMETERS = st.one_of(
    st.just(pb.InferParameter()),
    st.builds(lambda value: pb.InferParameter(int64_param=value), NUMBERS),
    st.builds(lambda value: pb.InferParameter(uint64_param=value), st.integers(0, 2**64 - 1)),
    st.builds(lambda value: pb.InferParameter(double_param=value), st.floats()),
    st.builds(lambda value: pb.InferParameter(string_param=value), st.text(max_size=20)),
    st.builds(lambda value: pb.InferParameter(bool_param=value), st.booleans()),
)
CONTENTS = st.one_of(
    st.builds(
        lambda values: pb.InferTensorContents(uint_contents=values),
        st.lists(st.integers(0, 2**32 - 1), max_size=80),
    ),
    st.builds(
        lambda values: pb.InferTensorContents(bytes_contents=values),
        st.lists(st.binary(max_size=20), max_size=4),
    ),
    st.builds(
        lambda values: pb.InferTensorContents(fp32_contents=values),
        st.lists(st.floats(width=32), max_size=80),
    ),
)
VALID = st.sampled_from(
    [
        raw_image_request(),
        raw_image_request(3),
        typed_image_request(2),
        raw_encoded_request(),
        raw_encoded_request(png(), png()),
        typed_encoded_request(),
    ]
)

Mutation = Callable[[pb.ModelInferRequest], None]


def on_inputs(change: Callable[[pb.ModelInferRequest.InferInputTensor], object]) -> Mutation:
    def mutate(request: pb.ModelInferRequest) -> None:
        for tensor in request.inputs:
            change(tensor)

    return mutate


def set_dimension(index: int, value: int) -> Mutation:
    def change(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
        if tensor.shape:
            tensor.shape[index % len(tensor.shape)] = value

    return on_inputs(change)


def set_shape(shape: list[int]) -> Mutation:
    def change(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
        tensor.shape[:] = shape

    return on_inputs(change)


def splice_raw(start: int, length: int, inserted: bytes) -> Mutation:
    def mutate(request: pb.ModelInferRequest) -> None:
        for index, raw in enumerate(request.raw_input_contents):
            at = start % (len(raw) + 1)
            request.raw_input_contents[index] = raw[:at] + inserted + raw[at + length :]

    return mutate


def add_output(name: str, parameter: str, value: pb.InferParameter) -> Mutation:
    def mutate(request: pb.ModelInferRequest) -> None:
        request.outputs.add(name=name).parameters[parameter].CopyFrom(value)

    return mutate


MUTATIONS = st.one_of(
    st.builds(set_dimension, st.integers(0, 4), NUMBERS),
    st.builds(set_shape, st.lists(NUMBERS, max_size=6)),
    st.builds(splice_raw, st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8)),
    st.builds(add_output, NAMES, PARAMETER_NAMES, PARAMETERS),
    st.builds(lambda name: on_inputs(lambda tensor: setattr(tensor, "name", name)), NAMES),
    st.builds(lambda kind: on_inputs(lambda tensor: setattr(tensor, "datatype", kind)), DATATYPES),
    st.builds(lambda new: on_inputs(lambda tensor: tensor.contents.CopyFrom(new)), CONTENTS),
    st.builds(
        lambda name, value: on_inputs(lambda tensor: tensor.parameters[name].CopyFrom(value)),
        PARAMETER_NAMES,
        PARAMETERS,
    ),
    st.builds(
        lambda name, value: lambda request: request.parameters[name].CopyFrom(value),
        PARAMETER_NAMES,
        PARAMETERS,
    ),
    st.builds(lambda name: lambda request: setattr(request, "model_name", name), NAMES),
    st.builds(lambda text: lambda request: setattr(request, "model_version", text), NAMES),
    st.builds(lambda raw: lambda request: request.raw_input_contents.append(raw), st.binary()),
    st.just(lambda request: request.raw_input_contents.pop()),
    st.just(lambda request: request.MergeFrom(request)),
    st.just(lambda request: request.MergeFrom(raw_image_request())),
    st.just(lambda request: request.ClearField("inputs")),
)


@st.composite
def mutated(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A valid request with a few fields changed."""
    request = pb.ModelInferRequest()
    request.CopyFrom(draw(VALID))
    for mutate in draw(st.lists(MUTATIONS, min_size=1, max_size=4)):
        try:
            mutate(request)
        except IndexError:
            continue  # nothing left to change there
    return request


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The bytes of a valid request, a few of them changed, that still are a message."""
    data = bytearray(draw(VALID).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 3))
        data[at : at + length] = draw(st.binary(max_size=3))
    return bytes(data)
