"""A network never reads data from a file besides its own."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from convd.artifact.bundle import Artifact, checksums
from convd.runtime.choice import prove_session
from convd.runtime.cpu import CPU
from convd.runtime.errors import OutsideDataError, SessionError
from convd.runtime.outside_data import refuse_outside_data
from convd.runtime.session import Session, open_session
from tests.support import rewrite_manifest
from tests.tiny_artifact import publish_tiny


def outside(location: str = "secret.bin", size: int = 8) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[size])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def identity(tensor: TensorProto) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, [8])
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    made = helper.make_graph(nodes, "g", [], [output], [tensor])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def harmless() -> onnx.ModelProto:
    return identity(helper.make_tensor("w", TensorProto.UINT8, [8], b"12345678", raw=True))


def in_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(outside())


def by_location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def by_entries_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="x")


def in_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def in_indices(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(outside())


def in_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside()))


def in_list_of_tensors(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="t", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(outside())


def in_branch(model: onnx.ModelProto) -> None:
    branch = identity(outside()).graph
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=harmless().graph)
    model.graph.node.append(node)


def in_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["y"], value=outside())
    function = helper.make_function("own", "f", [], ["y"], [node], [helper.make_opsetid("", 18)])
    model.functions.append(function)


def in_training(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(outside())


def compiled(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("EPContext", [], ["z"], domain="com.microsoft"))


PLACES = [
    in_initializer,
    by_location_alone,
    by_entries_alone,
    in_sparse_initializer,
    in_indices,
    in_constant,
    in_list_of_tensors,
    in_branch,
    in_function,
    in_training,
    compiled,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_network_that_names_another_file_is_refused(
    place: Callable[[onnx.ModelProto], None],
) -> None:
    model = harmless()
    refuse_outside_data(model.SerializeToString())
    place(model)
    with pytest.raises(OutsideDataError, match="export"):
        refuse_outside_data(model.SerializeToString())


def test_a_second_graph_which_parsers_merge_into_the_first_is_seen() -> None:
    more = onnx.ModelProto()
    more.graph.initializer.append(outside())
    with pytest.raises(OutsideDataError):
        refuse_outside_data(harmless().SerializeToString() + more.SerializeToString())


def test_no_session_reads_a_file_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutsideDataError, match="keeps weights in another file"):
        open_session(identity(outside()).SerializeToString(), CPU)
    open_session(harmless().SerializeToString(), CPU)


@pytest.mark.parametrize(
    "model",
    [
        b"\xff" * 12,
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x0b\x0c",
        b"\x3a\x05ab",
        b"\x80\x80\x80\x80\x80\x01",
    ],
    ids=["tag", "length", "group", "cut", "long tag"],
)
def test_what_is_not_protobuf_is_refused(model: bytes) -> None:
    with pytest.raises(SessionError, match="not a valid ONNX file"):
        refuse_outside_data(model)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        refuse_outside_data(data)
    except SessionError:
        return


@given(st.integers(min_value=0), st.integers(0, 255))
def test_whatever_bytes_change_external_data_that_onnx_sees_is_seen(place: int, byte: int) -> None:
    data = bytearray(identity(outside()).SerializeToString())
    data[place % len(data)] = byte
    try:
        model = onnx.ModelProto.FromString(bytes(data))
    except Exception:
        return
    seen = any(tensor.data_location or tensor.external_data for tensor in model.graph.initializer)
    if seen:
        with pytest.raises((OutsideDataError, SessionError)):
            refuse_outside_data(bytes(data))


def test_listing_the_other_file_in_the_manifest_does_not_help(tmp_path: Path) -> None:
    """An artifact with weights in a second file is refused as a whole."""
    folder = tmp_path / "pets" / str(publish_tiny(tmp_path))
    (folder / "secret.bin").write_bytes(b"12345678")
    model = onnx.ModelProto.FromString((folder / "model.onnx").read_bytes())
    model.graph.initializer.append(outside())
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    files = checksums(folder)
    rewrite_manifest(
        folder, files={name: files[name] for name in files if not name.startswith("manifest")}
    )
    with pytest.raises(OutsideDataError):
        prove_session(Artifact.open(folder), Session)
