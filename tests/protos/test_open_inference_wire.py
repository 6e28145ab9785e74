"""Our stubs against the protocol's names and numbers, which stand as data beside this test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from convd.protos.inference import grpc_service_pb2, model_config_pb2

WIRE = Path(__file__).with_name("open_inference_wire.txt").read_text().splitlines()
RPCS = [line.split()[1:] for line in WIRE if line.startswith("rpc ")]
MESSAGES = dict(
    line.removeprefix("message ").split(":", 1) for line in WIRE if line.startswith("message ")
)
ENUMS = dict(line.removeprefix("enum ").split(": ", 1) for line in WIRE if line.startswith("enum "))
FILES = (grpc_service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)
SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{kind.upper()}"): kind
    for kind in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def messages(found: Iterator[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        if not message.GetOptions().map_entry:
            yield message
            yield from messages(iter(message.nested_types))


def local(descriptor: Descriptor | EnumDescriptor) -> str:
    return str(descriptor.full_name).removeprefix("inference.")


OURS = {
    local(message): message
    for file in FILES
    for message in messages(iter(file.message_types_by_name.values()))
}
OUR_ENUMS = {
    local(enum): enum
    for enum in [
        *(enum for file in FILES for enum in file.enum_types_by_name.values()),
        *(enum for message in OURS.values() for enum in message.enum_types),
    ]
}
KNOWN_TYPES = {name.rsplit(".", 1)[-1] for name in (*MESSAGES, *ENUMS)} | set(SCALARS.values())


def type_name(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
            return f"map<{type_name(key)},{type_name(value)}>"
        return field.message_type.name
    if field.enum_type is not None:
        return field.enum_type.name
    return SCALARS[field.type]


def written(field: FieldDescriptor) -> str:
    """A field of ours in the notation of the data."""
    name = type_name(field)
    repeated = "repeated " if field.is_repeated and not name.startswith("map<") else ""
    oneof = f" (oneof {field.containing_oneof.name})" if field.containing_oneof else ""
    return f"{field.name}={field.number} {repeated}{name}{oneof}"


def is_described(entry: str) -> bool:
    """Whether the data says what the field's type looks like."""
    kind = re.sub(r" \(oneof \w+\)$", "", entry.split(" ", 1)[1]).removeprefix("repeated ")
    return set(re.findall(r"\w+", kind.removeprefix("map"))) <= KNOWN_TYPES


def test_the_data_is_whole() -> None:
    assert (len(RPCS), len(ENUMS)) == (20, 4)
    assert len(MESSAGES) > 60


def test_rpcs() -> None:
    service = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == "inference.GRPCInferenceService"
    ours = {
        (method.name, method.input_type.name, method.output_type.name)
        + (("stream",) if method.client_streaming and method.server_streaming else ())
        for method in service.methods
    }
    assert ours == {tuple(rpc) for rpc in RPCS}


def test_no_message_or_enum_is_missing_or_invented() -> None:
    assert set(OURS) == set(MESSAGES)
    assert set(OUR_ENUMS) == set(ENUMS)


@pytest.mark.parametrize("name", MESSAGES)
def test_fields(name: str) -> None:
    entries = [entry.strip() for entry in MESSAGES[name].split(";") if entry.strip()]
    proto = DescriptorProto()
    OURS[name].CopyToProto(proto)
    assert {written(field) for field in OURS[name].fields} == set(filter(is_described, entries))
    reserved = {n for r in proto.reserved_range for n in range(r.start, r.end)}
    undescribed = [entry for entry in entries if not is_described(entry)]
    assert reserved == {int(re.findall(r"=(\d+)", entry)[0]) for entry in undescribed}
    assert set(proto.reserved_name) == {entry.split("=")[0] for entry in undescribed}


@pytest.mark.parametrize("name", ENUMS)
def test_enum_values(name: str) -> None:
    ours = "; ".join(f"{value.name}={value.number}" for value in OUR_ENUMS[name].values)
    assert ours == ENUMS[name]
