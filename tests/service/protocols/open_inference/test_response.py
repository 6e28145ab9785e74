"""Outputs are written as the protocol and its classification extension say."""

from types import SimpleNamespace
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from convd.artifact.graph_contract import NO_EXTRAS, OutputArrays, Outputs
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.inference.service import Classified
from convd.service.protocols.open_inference.request import InferRequest, Wanted
from convd.service.protocols.open_inference.response import best_classes, make_response
from convd.service.protocols.open_inference.tensors import InputTensor, bytes_elements
from convd.service.servables.servable import Servable
from tests.service.protocols.open_inference.requests import LABELS

PROBABILITIES = np.array([[0.25, 0.25, 0.5], [0.125, 0.75, 0.125]], np.float32)
LOGITS = np.log(PROBABILITIES) + 3
OUTPUTS = Outputs(probabilities=PROBABILITIES, logits=LOGITS)


ANSWERING = cast(
    "Servable",
    SimpleNamespace(
        name="pets",
        version_text="3",
        provider=SimpleNamespace(name="cpu"),
        manifest=SimpleNamespace(labels=LABELS),
    ),
)
"""What a response tells of a servable."""


def write(
    outputs: OutputArrays = OUTPUTS,
    batch_sizes: tuple[int, ...] = (2,),
    request_id: str = "",
    ignored_input: str = "",
    **classes: int | None,
) -> pb.ModelInferResponse:
    images = np.zeros((2, 1, 1, 1), np.uint8)
    request = InferRequest(images, Wanted(classes, NO_EXTRAS), 0, None, ignored_input)
    answer = Classified(ANSWERING, images, outputs, batch_sizes, {})
    return make_response(request_id, request, answer)


def elements(response: pb.ModelInferResponse, index: int = 0) -> list[bytes]:
    output = response.outputs[index]
    count = int(np.prod(output.shape))
    tensor = InputTensor(name=output.name, datatype=output.datatype)
    return bytes_elements(tensor, response.raw_output_contents[index], count)


def test_tensors_are_raw_little_endian_and_in_the_given_order() -> None:
    response = write(probabilities=None, logits=None)
    assert [output.name for output in response.outputs] == ["probabilities", "logits"]
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        assert (output.datatype, list(output.shape)) == ("FP32", [2, 3])
        assert not output.HasField("contents")
        np.testing.assert_array_equal(
            np.frombuffer(raw, "<f4").reshape(2, 3), getattr(OUTPUTS, output.name)
        )


def test_a_view_into_a_larger_batch_is_written_alone() -> None:
    batch = np.arange(24, dtype=np.float32).reshape(8, 3)
    response = write(Outputs(batch, batch[2:4]), logits=None)
    assert response.raw_output_contents[0] == batch[2:4].tobytes()


def test_what_responses_share_is_not_what_one_of_them_changed() -> None:
    """Descriptions are kept and copied: who changes a response changes no other."""
    first = write(probabilities=None, request_id="7", batch_sizes=(4, 2), ignored_input="file")
    untouched = pb.ModelInferResponse.FromString(first.SerializeToString())
    first.model_name = "changed"
    first.outputs[0].shape[0] = 9
    first.parameters["batch_size"].int64_param = 0
    again = write(probabilities=None, request_id="7", batch_sizes=(4, 2), ignored_input="file")
    assert again == untouched
    assert again.id == "7"
    assert again.parameters["batch_size"].int64_param == 4
    assert again.parameters["batch_sizes"].string_param == "4,2"
    assert again.parameters["ignored_input"].string_param == "file"
    assert not write(probabilities=None).id


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 4)), max_size=8))
def test_a_response_is_of_its_own_answer(answers: list[tuple[int, bool, int]]) -> None:
    for rows, logits_too, batch_size in answers:
        values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        wanted: dict[str, None] = dict.fromkeys(
            ["probabilities", *(["logits"] if logits_too else [])]
        )
        response = write(Outputs(values, values + 1), (batch_size,), "", "", **wanted)
        assert [(one.name, list(one.shape)) for one in response.outputs] == [
            (name, [rows, 3]) for name in wanted
        ]
        assert response.raw_output_contents[0] == values.tobytes()
        assert response.parameters["batch_size"].int64_param == batch_size


def test_classification_orders_by_value_then_index() -> None:
    response = write(probabilities=2)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2, 2])
    assert elements(response) == [
        b"0.500000:2:ship",
        b"0.250000:0:cat",
        b"0.750000:1:dog",
        b"0.125000:0:cat",
    ]


def test_classification_above_the_number_of_classes_gives_all() -> None:
    response = write(logits=2**32 + 1)
    assert list(response.outputs[0].shape) == [2, 3]
    assert len(elements(response)) == 6


def test_an_empty_label_leaves_out_its_colon() -> None:
    row = np.array([0.25, 0.75], np.float32)
    assert best_classes(row, 2, ["", "größer"]) == [
        "0.750000:1:größer".encode(),
        b"0.250000:0",
    ]


@settings(deadline=None)
@given(arrays.arrays(np.float32, st.integers(1, 9), elements=st.floats(-1e6, 1e6, width=32)))
def test_classification_is_a_ranking(row: NDArray[np.float32]) -> None:
    texts = [text.decode().split(":") for text in best_classes(row, len(row), [""] * len(row))]
    assert sorted(int(index) for _, index in texts) == list(range(len(row)))
    ranked = [row[int(index)] for _, index in texts]
    assert ranked == sorted(ranked, reverse=True)
