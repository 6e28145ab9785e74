"""Repository control, log and trace settings, shared memory, reflection and health."""

import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub as Stub
from testbed.server import server_process
from tests.service.protocols.open_inference.requests import raw_image_request
from tests.support import Client, add_version, code_of, running_server, wait_until
from tests.tiny_artifact import publish_tiny

LogValue = pb.LogSettingsRequest.SettingValue


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[Client]:
    """A server that lets clients control it."""
    publish_tiny(tmp_path)
    with running_server(tmp_path, allow_repository_control=True) as client:
        yield client


@pytest.fixture(scope="module")
def log_server(pets: Path) -> Iterator[Client]:
    """A server that lets clients set the log level."""
    with running_server(pets, allow_repository_control=True) as client:
        yield client


@pytest.fixture
def log_level() -> Iterator[logging.Logger]:
    """The root logger at INFO, put back afterwards."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(before)


def index(stub: Stub, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready)).models
    return [(one.name, one.version, one.state, one.reason) for one in models]


def unload(stub: Stub, name: str = "pets") -> None:
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name))


def load(stub: Stub, name: str = "pets") -> None:
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name))


def test_a_model_is_unloaded_and_loaded_again(open_server: Client) -> None:
    stub = Stub(open_server.channel)
    assert index(stub) == [("pets", "1", "READY", "")]
    unload(stub)
    assert index(stub, ready=True) == []
    wait_until(lambda: index(stub) == [("pets", "1", "UNAVAILABLE", "unloaded")])
    assert not stub.ModelReady(pb.ModelReadyRequest(name="pets")).ready
    infer = code_of(lambda: stub.ModelInfer(raw_image_request()))
    assert infer[0] is grpc.StatusCode.UNAVAILABLE
    unload(stub)
    load(stub)
    load(stub)
    assert stub.ModelInfer(raw_image_request()).model_version == "1"


def test_loading_waits_for_what_still_drains(pets: Path) -> None:
    with running_server(
        pets, allow_repository_control=True, max_queue_delay_seconds=30.0
    ) as client:
        stub = Stub(client.channel)
        waiting = stub.ModelInfer.future(raw_image_request())
        queued = 'convd_queue_rows{model="pets",version="1"} 1.0'
        wait_until(lambda: queued in client.get("/metrics")[1])
        unload(stub)
        assert index(stub)[0][2] == "UNLOADING"
        request = pb.RepositoryModelLoadRequest(model_name="pets")
        loading = stub.RepositoryModelLoad.future(request)
        waiting.cancel()  # type: ignore[no-untyped-call]
        loading.result(timeout=30)
        assert index(stub) == [("pets", "1", "READY", "")]


def test_an_unloaded_model_stays_so_when_a_version_is_published(
    open_server: Client, tmp_path: Path
) -> None:
    stub = Stub(open_server.channel)
    unload(stub)
    publish_tiny(tmp_path, seed=1)
    # Loading another model makes the server look at the repository in the meantime.
    publish_tiny(tmp_path, "fish")
    load(stub, "fish")
    assert not stub.ModelReady(pb.ModelReadyRequest(name="pets")).ready
    load(stub)
    assert stub.ModelInfer(raw_image_request()).model_version == "2"


def test_a_model_that_cannot_be_loaded_says_why(
    open_server: Client, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stub = Stub(open_server.channel)
    workshop = tmp_path_factory.mktemp("workshop")
    publish_tiny(workshop, "fish")
    (workshop / "fish" / "1" / "model.onnx").write_bytes(b"no network")
    add_version(tmp_path, "fish", workshop / "fish" / "1")
    code, text = code_of(lambda: load(stub, "fish"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "does not match its checksum" in text
    (broken, whole) = index(stub)
    assert broken[:3] == ("fish", "1", "UNAVAILABLE")
    assert "does not match its checksum" in broken[3]
    assert whole == ("pets", "1", "READY", "")


@pytest.mark.parametrize("name", ["fish", "", "../pets", "x" * 20_000])
def test_unknown_models_cannot_be_loaded_or_unloaded(open_server: Client, name: str) -> None:
    stub = Stub(open_server.channel)
    for change in (load, unload):
        code, text = code_of(lambda: change(stub, name))  # noqa: B023
        assert code is grpc.StatusCode.NOT_FOUND
        assert len(text) < 200


def test_load_takes_no_configuration_and_no_repository(open_server: Client) -> None:
    stub = Stub(open_server.channel)
    request = pb.RepositoryModelLoadRequest(model_name="pets")
    request.parameters["config"].string_param = "{}"
    code, text = code_of(lambda: stub.RepositoryModelLoad(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "'config'" in text
    request = pb.RepositoryModelLoadRequest(model_name="pets", repository_name="other")
    code, _ = code_of(lambda: stub.RepositoryModelLoad(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_control_is_off_unless_it_is_allowed(server: Client, stub: Stub) -> None:
    settings = pb.LogSettingsRequest(settings={"log_info": LogValue(bool_param=False)})
    for change in (
        lambda: load(stub),
        lambda: unload(stub),
        lambda: stub.LogSettings(settings),
    ):
        code, text = code_of(change)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "--allow-repository-control" in text
    assert "model_repository" not in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
    assert index(stub) == [("pets", "1", "READY", "")]
    assert server.classify is not None


def test_control_is_an_extension_where_it_is_allowed(open_server: Client) -> None:
    stub = Stub(open_server.channel)
    assert "model_repository" in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"log_verbose_level": LogValue(uint32_param=1)}, logging.DEBUG),
        ({"log_verbose_level": LogValue(uint32_param=0)}, logging.INFO),
        ({"log_info": LogValue(bool_param=False)}, logging.WARNING),
        ({"log_warnings": LogValue(bool_param=False)}, logging.ERROR),
        ({"log_errors": LogValue(bool_param=False)}, logging.CRITICAL),
        (
            {"log_info": LogValue(bool_param=False), "log_errors": LogValue(bool_param=True)},
            logging.WARNING,
        ),
    ],
)
def test_log_level(
    log_server: Client, log_level: logging.Logger, settings: dict[str, LogValue], level: int
) -> None:
    stub = Stub(log_server.channel)
    answer = stub.LogSettings(pb.LogSettingsRequest(settings=settings))
    assert log_level.level == level
    assert answer.settings["log_info"].bool_param is (level <= logging.INFO)
    assert answer == stub.LogSettings(pb.LogSettingsRequest())


@pytest.mark.parametrize(
    "settings",
    [
        {"log_file": LogValue(string_param="/etc/passwd")},
        {"log_info": LogValue(string_param="yes")},
        {"log_info": LogValue()},
        {"log_verbose_level": LogValue(bool_param=True)},
        {"log_info": LogValue(bool_param=True), "log_errors": LogValue(bool_param=False)},
    ],
)
def test_log_settings_that_cannot_be(
    log_server: Client, log_level: logging.Logger, settings: dict[str, LogValue]
) -> None:
    stub = Stub(log_server.channel)
    code, _ = code_of(lambda: stub.LogSettings(pb.LogSettingsRequest(settings=settings)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert log_level.level == logging.INFO


def test_trace_settings_are_read_only(stub: Stub) -> None:
    answer = stub.TraceSetting(pb.TraceSettingRequest())
    assert list(answer.settings["trace_level"].value) == ["OFF"]
    change = pb.TraceSettingRequest()
    change.settings["trace_level"].value.append("TIMESTAMPS")
    assert code_of(lambda: stub.TraceSetting(change))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_lists_every_method_and_each_can_be_called(server: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(server.channel)
    pool = DescriptorPool(database)
    services = set(database.get_services())
    assert services >= {
        "convd.v1.ClassificationService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
    }
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert len(service.methods) == 20
    for method in service.methods:
        request = GetMessageClass(method.input_type)()
        response = GetMessageClass(method.output_type)
        if method.client_streaming:
            call = server.channel.stream_stream(
                f"/{service.full_name}/{method.name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            (answer,) = call(iter([request]))
            assert "no inputs" in answer.error_message
            continue
        code = grpc.StatusCode.OK
        unary = server.channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            unary(request)
        except grpc.RpcError as error:
            code = error.code()
            assert error.details()
        shared_memory = "SharedMemory" in method.name
        assert (code is grpc.StatusCode.UNIMPLEMENTED) is shared_memory, method.name
        assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), method.name


def test_health_names_every_service_and_model(server: Client) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    for name in ("", "inference.GRPCInferenceService", "convd.v1.ClassificationService", "pets"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    code, _ = code_of(lambda: health.Check(health_pb2.HealthCheckRequest(service="fish")))
    assert code is grpc.StatusCode.NOT_FOUND


def test_the_flag_needs_no_value(pets: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with (
        server_process(pets, log, "--allow-repository-control") as process,
        grpc.insecure_channel(f"127.0.0.1:{process.grpc_port}") as channel,
    ):
        metadata = Stub(channel).ServerMetadata(pb.ServerMetadataRequest())
        assert "model_repository" in metadata.extensions
