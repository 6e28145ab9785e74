"""Every method against the table of scopes, by a client that has each of them alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from convd.protos.inference import grpc_service_pb2 as infer_pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.service.access.table import UnlistedError
from convd.service.rpc.registration import Registry
from testbed.principals import bearer, write_principals
from tests.support import Client, code_of, running_server

# What docs/security.md says, written down a second time: a change of the table is meant twice.
OPEN = {"ServerLive", "ServerReady"}
SCOPES = {
    "health": {"Check", "List", "Watch", "ModelReady"},
    "infer": {"Classify", "ClassifyStream", "Explain", "ModelInfer", "ModelStreamInfer"},
    "models:list": {"ListModels", "RepositoryIndex", "ServerMetadata"},
    "models:read": {"GetModel", "ModelMetadata", "ModelConfig"},
    "metrics:read": {"ModelStatistics"},
    "admin:models": {
        "ListComparisons",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
    },
    "admin:logs": {"LogSettings", "TraceSetting"},
    "admin:reflection": {"ServerReflectionInfo"},
}
PER_MODEL = ("infer", "models:read")
DENIED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


class Guarded(NamedTuple):
    """A server with access control, and the token of each principal."""

    client: Client
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    principals = {
        scope.replace(":", "."): [f"{scope}:digits" if scope in PER_MODEL else scope]
        for scope in SCOPES
    }
    principals["elsewhere"] = ["infer:other", "models:read:other"]
    principals["lister"] = ["infer:other", "models:list"]
    principals["nothing"] = []
    tokens = write_principals(root / "principals.json", principals)
    with running_server(
        models, principals=root / "principals.json", allow_repository_control=True
    ) as client:
        yield Guarded(client, tokens)


def methods(guarded: Guarded) -> list[MethodDescriptor]:
    """Every method of every service, as the server itself describes them."""
    stub = ServerReflectionStub(guarded.client.channel)

    def ask(**question: str) -> Any:
        request = reflection.ServerReflectionRequest(**question)
        metadata = bearer(guarded.tokens["admin.reflection"])
        return next(iter(stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=20)))

    names = [one.name for one in ask(list_services="").list_services_response.service]
    pool = descriptor_pool.DescriptorPool()
    for name in names:
        answer = ask(file_containing_symbol=name).file_descriptor_response
        for serialized in reversed(answer.file_descriptor_proto):
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(serialized))
    return [method for name in names for method in pool.FindServiceByName(name).methods]


def message_about(method: MethodDescriptor, model: str) -> Message:
    """The message of a method, with the model's name wherever there is a place for it."""
    message = message_factory.GetMessageClass(method.input_type)()
    _name_model(message, model)
    return message


def _name_model(message: Message, model: str) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name in ("name", "model_name", "service") and field.type == field.TYPE_STRING:
            setattr(message, field.name, model)
        elif field.name in ("model", "request") and field.type == field.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            inner.SetInParent()
            _name_model(inner, model)


def outcome(
    channel: grpc.Channel, method: MethodDescriptor, message: Message, token: str | None
) -> grpc.StatusCode:
    """The status of a call; that of an endless answer is OK once it has begun."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = bearer(token) if token else ()
    serialize: Callable[[Message], bytes] = type(message).SerializeToString
    try:
        if method.server_streaming:
            kind: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
            request = iter([message]) if method.client_streaming else message
            call = kind(path, serialize)(request, metadata=metadata, timeout=20)
            next(call, None)
            call.cancel()
        else:
            ask: Any = channel.unary_unary
            ask(path, serialize)(message, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_the_table_of_this_test_knows_every_method(guarded: Guarded) -> None:
    known = OPEN.union(*SCOPES.values())
    assert {method.name for method in methods(guarded)} == known
    assert len(methods(guarded)) == len(known)


def test_without_a_token(guarded: Guarded) -> None:
    for method in methods(guarded):
        code = outcome(guarded.client.channel, method, message_about(method, "digits"), None)
        expected = grpc.StatusCode.OK if method.name in OPEN else grpc.StatusCode.UNAUTHENTICATED
        assert code is expected, method.full_name
    check = next(method for method in methods(guarded) if method.name == "Check")
    assert outcome(guarded.client.channel, check, message_about(check, ""), None) is (
        grpc.StatusCode.OK
    )


@pytest.mark.parametrize("token", ["wrong", "convd_wrong", "x" * 4000])
def test_a_wrong_token_is_none(guarded: Guarded, token: str) -> None:
    for method in methods(guarded):
        if method.name not in OPEN:
            code = outcome(guarded.client.channel, method, message_about(method, "digits"), token)
            assert code is grpc.StatusCode.UNAUTHENTICATED, method.full_name


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_exactly_its_row(guarded: Guarded, scope: str) -> None:
    token = guarded.tokens[scope.replace(":", ".")]
    for method in methods(guarded):
        if method.name == "RepositoryModelUnload":
            message = message_about(method, "absent")
        else:
            message = message_about(method, "digits")
        code = outcome(guarded.client.channel, method, message, token)
        if method.name in OPEN | SCOPES[scope]:
            assert code not in DENIED, method.full_name
        else:
            assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name


def test_a_scope_for_one_model_says_nothing_of_another(guarded: Guarded) -> None:
    for method in methods(guarded):
        if method.name in SCOPES["infer"] | SCOPES["models:read"]:
            message = message_about(method, "digits")
            code = outcome(guarded.client.channel, method, message, guarded.tokens["elsewhere"])
            assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name
            # Whether there is such a model at all is for those to know who may use it.
            message = message_about(method, "absent")
            code = outcome(guarded.client.channel, method, message, guarded.tokens["elsewhere"])
            assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name


def test_an_unknown_model_names_the_others_to_those_only_who_may_list_them(
    guarded: Guarded,
) -> None:
    """A scope may be for a model that has gone, and for all of them without their list."""
    channel: Any = guarded.client.channel
    telling = set()
    for method in methods(guarded):
        if method.name in SCOPES["infer"] | SCOPES["models:read"]:
            message = message_about(method, "other")
            path = f"/{method.containing_service.full_name}/{method.name}"
            call = channel.stream_stream(path, type(message).SerializeToString)
            told = list[object]()
            try:
                metadata = bearer(guarded.tokens["elsewhere"])
                # Streams tell it in an answer, and go on.
                told += call(iter([message]), metadata=metadata, timeout=20)
            except grpc.RpcError as refused:
                told.append(refused)
            assert "digits" not in str(told), method.full_name
            if "there is no model" in str(told):
                telling.add(method.name)
    assert telling >= SCOPES["models:read"]
    for who, may_know in (("elsewhere", False), ("lister", True)):
        metadata = bearer(guarded.tokens[who])
        classify = partial(guarded.client.classify, b"x", model="other", metadata=metadata)
        code, text = code_of(classify)
        assert code is grpc.StatusCode.NOT_FOUND
        assert ("digits" in text) is may_know


def test_no_scopes_at_all(guarded: Guarded) -> None:
    for method in methods(guarded):
        if method.name not in OPEN:
            message = message_about(method, "digits")
            code = outcome(guarded.client.channel, method, message, guarded.tokens["nothing"])
            assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name


def test_each_message_of_a_stream_is_checked(guarded: Guarded) -> None:
    stub = GRPCInferenceServiceStub(guarded.client.channel)
    allowed, forbidden = (infer_pb.ModelInferRequest(model_name=n) for n in ("digits", "other"))
    answers = stub.ModelStreamInfer(
        iter([allowed, allowed, forbidden, allowed]),
        metadata=bearer(guarded.tokens["infer"]),
        timeout=20,
    )
    received: list[infer_pb.ModelStreamInferResponse] = []
    with pytest.raises(grpc.RpcError) as refused:
        for answer in answers:
            received.append(answer)  # noqa: PERF402 - those before the refusal count
    assert len(received) == 2
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_method_without_a_row_cannot_be_registered() -> None:
    registry = Registry(grpc.server(ThreadPoolExecutor(1)), None)
    with pytest.raises(UnlistedError, match=r"/some\.Service/Method has no row"):
        registry.add_registered_method_handlers(
            "some.Service", {"Method": grpc.unary_unary_rpc_method_handler(print)}
        )


def test_refusals_are_counted(guarded: Guarded) -> None:
    check = next(method for method in methods(guarded) if method.name == "ListModels")
    outcome(guarded.client.channel, check, message_about(check, ""), None)
    outcome(guarded.client.channel, check, message_about(check, ""), guarded.tokens["nothing"])
    text = guarded.client.get("/metrics", guarded.tokens["metrics.read"])[1]
    assert 'convd_principal_requests_total{code="UNAUTHENTICATED",principal="anonymous"}' in text
    assert 'convd_principal_requests_total{code="PERMISSION_DENIED",principal="nothing"}' in text
    assert 'convd_principal_requests_total{code="INVALID_ARGUMENT",principal="infer"}' in text
