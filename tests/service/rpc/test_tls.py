"""TLS and client certificates of the gRPC port, with real certificates on loopback."""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.settings import SettingsError
from testbed.authorities import Authority
from testbed.principals import bearer, write_principals
from tests.digits import Digits
from tests.support import code_of, running_server, wait_until

OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def tls_port(authority: Authority, models: Path) -> Iterator[int]:
    """A server with TLS, where anyone may do everything."""
    certificate, key = authority.issue("server")
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        yield client.grpc_port


@pytest.fixture(scope="module")
def mutual_port(authority: Authority, models: Path) -> Iterator[int]:
    """A server that asks for client certificates, and knows two of them."""
    certificate, key = authority.issue("mutual")
    principals = models.parent / "principals.json"
    entries = [
        {"name": "camera", "scopes": ["models:list"], "certificates": ["spiffe://test/camera"]},
        {"name": "lab", "scopes": ["models:list"], "certificates": ["CN=lab"]},
        {"name": "nobody", "scopes": [], "certificates": ["CN=nobody"]},
        {"name": "full", "scopes": ["health", "infer:*"], "certificates": ["CN=full"]},
    ]
    principals.write_text(json.dumps({"principals": entries}))
    with running_server(
        models,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=authority.certificate_file,
        principals=principals,
    ) as client:
        yield client.grpc_port


def ask(
    port: int,
    authority: Authority,
    own: tuple[Path, Path] | None = None,
    *,
    host: str = "localhost",
    metadata: tuple[tuple[str, str], ...] = (),
) -> grpc.StatusCode:
    """The status of ListModels over a connection of its own."""
    certificate, key = (None, None) if own is None else (file.read_bytes() for file in own)
    credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
    with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
        stub = ClassificationServiceStub(channel)
        try:
            stub.ListModels(pb.ListModelsRequest(), timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return OK


def test_a_client_that_knows_the_authority(tls_port: int, authority: Authority) -> None:
    assert ask(tls_port, authority) is OK
    assert ask(tls_port, authority, host="127.0.0.1") is OK


def test_a_client_without_tls_is_refused(tls_port: int) -> None:
    with grpc.insecure_channel(f"localhost:{tls_port}") as channel:
        stub = ClassificationServiceStub(channel)
        assert (
            code_of(lambda: stub.ListModels(pb.ListModelsRequest(), timeout=10))[0] is UNAVAILABLE
        )


def test_a_client_that_does_not_know_the_authority_refuses(tls_port: int, tmp_path: Path) -> None:
    assert ask(tls_port, Authority(tmp_path)) is UNAVAILABLE


@pytest.mark.parametrize(
    ("hosts", "expired"), [(("elsewhere.example",), False), (("localhost",), True)]
)
def test_clients_refuse_a_wrong_name_and_an_expired_certificate(
    authority: Authority, models: Path, hosts: tuple[str, ...], expired: bool
) -> None:
    certificate, key = authority.issue(f"bad-{hosts[0]}", hosts=hosts, expired=expired)
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        assert ask(client.grpc_port, authority) is UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(
    tls_port: int, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError):
        _handshake(tls_port, context)


def test_tls_1_2_is_accepted(tls_port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert _handshake(tls_port, context) == "TLSv1.2"


def test_known_client_certificates_by_uri_and_by_subject(
    mutual_port: int, authority: Authority
) -> None:
    camera = authority.issue("some-camera", uri="spiffe://test/camera", hosts=())
    assert ask(mutual_port, authority, camera) is OK
    assert ask(mutual_port, authority, authority.issue("lab", hosts=())) is OK


def test_a_client_certificate_grants_its_scopes_only(
    mutual_port: int, authority: Authority
) -> None:
    assert ask(mutual_port, authority, authority.issue("nobody", hosts=())) is DENIED
    stranger = authority.issue("stranger", uri="spiffe://test/camera/2", hosts=())
    assert ask(mutual_port, authority, stranger) is UNAUTHENTICATED


def test_a_token_goes_before_a_certificate(mutual_port: int, authority: Authority) -> None:
    lab = authority.issue("lab", hosts=())
    assert ask(mutual_port, authority, lab, metadata=bearer("wrong")) is UNAUTHENTICATED


def test_certificates_that_no_authority_of_ours_signed(
    mutual_port: int, authority: Authority, tmp_path: Path
) -> None:
    assert ask(mutual_port, authority) is UNAVAILABLE
    assert ask(mutual_port, authority, Authority(tmp_path).issue("lab", hosts=())) is UNAVAILABLE
    assert (
        ask(mutual_port, authority, authority.issue("old", hosts=(), expired=True)) is UNAVAILABLE
    )


def test_streams_and_health_with_a_certificate(mutual_port: int, authority: Authority) -> None:
    certificate, key = authority.issue("lab", hosts=())
    credentials = grpc.ssl_channel_credentials(
        authority.pem, key.read_bytes(), certificate.read_bytes()
    )
    with grpc.secure_channel(f"localhost:{mutual_port}", credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert code_of(lambda: next(watch))[0] is DENIED
        stub = ClassificationServiceStub(channel)
        stream = stub.ClassifyStream(iter([pb.ClassifyStreamRequest()]), timeout=10)
        assert code_of(lambda: list(stream))[0] is DENIED


def test_every_kind_of_call_works_with_a_certificate(
    mutual_port: int, authority: Authority, digits: Digits
) -> None:
    certificate, key = authority.issue("full", hosts=())
    credentials = grpc.ssl_channel_credentials(
        authority.pem, key.read_bytes(), certificate.read_bytes()
    )
    message = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=digits.encoded())]
    )
    with grpc.secure_channel(f"localhost:{mutual_port}", credentials) as channel:
        stub = ClassificationServiceStub(channel)
        assert stub.Classify(message, timeout=10).results
        requests = [pb.ClassifyStreamRequest(id=str(n), request=message) for n in range(3)]
        answers = stub.ClassifyStream(iter(requests), timeout=10)
        assert [answer.id for answer in answers] == ["0", "1", "2"]
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="digits"), timeout=10
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_certificate_and_tokens_are_replaced_under_load(
    models: Path, tmp_path: Path, digits: Digits
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    file = tmp_path / "principals.json"
    tokens = write_principals(file, {"lab": ["infer:digits"], "other": ["infer:digits"]})
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=digits.encoded(3))]
    )
    stop, answered, failed = threading.Event(), [0, 0], list[grpc.RpcError]()

    def call(stub: ClassificationServiceStub, who: int) -> None:
        try:
            stub.Classify(request, timeout=20, metadata=bearer(tokens["lab"]))
            answered[who] += 1
        except grpc.RpcError as error:
            failed.append(error)

    def on_one_connection() -> None:
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            while not stop.is_set():
                call(ClassificationServiceStub(channel), 0)

    def on_new_connections() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        while not stop.is_set():
            with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
                call(ClassificationServiceStub(channel), 1)

    with running_server(
        models, tls_certificate=certificate, tls_key=key, principals=file
    ) as client:
        port, credentials = client.grpc_port, grpc.ssl_channel_credentials(authority.pem)
        callers = [threading.Thread(target=one) for one in (on_one_connection, on_new_connections)]
        for caller in callers:
            caller.start()
        try:
            before = _serial(port, authority)
            for _ in range(2):
                authority.issue("server")
                tokens_now = json.loads(file.read_text())
                file.with_suffix(".new").write_text(json.dumps(tokens_now, indent=1))
                file.with_suffix(".new").rename(file)
                wait_until(lambda: _serial(port, authority) != before)  # noqa: B023
                before = _serial(port, authority)
            # A token that is taken away is refused within a second; the other one still counts.
            entries = json.loads(file.read_text())["principals"]
            kept = [one for one in entries if one["name"] == "lab"]
            file.with_suffix(".new").write_text(json.dumps({"principals": kept}))
            file.with_suffix(".new").rename(file)
            metadata = bearer(tokens["other"])
            wait_until(lambda: ask(port, authority, metadata=metadata) is UNAUTHENTICATED)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
    assert not failed
    assert min(answered) > 10


def test_a_pair_that_does_not_fit_leaves_the_certificate_in_force(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        before = _serial(client.grpc_port, authority)
        other, _ = authority.issue("another")
        shutil.copyfile(other, certificate)
        wait_until(lambda: "is not the key of the certificate" in caplog.text)
        assert _serial(client.grpc_port, authority) == before
        key.write_text("nothing")
        wait_until(lambda: "is not a private key" in caplog.text)
        assert ask(client.grpc_port, authority) is OK


def test_files_that_cannot_be_used_end_the_start(models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    _, other_key = authority.issue("other")
    for pair, reason in [
        ((tmp_path / "absent", key), "No such file"),
        ((key, key), "has no certificate"),
        ((certificate, certificate), "is not a private key"),
        ((certificate, other_key), "is not the key of"),
    ]:
        with (
            pytest.raises(SettingsError, match=reason),
            running_server(models, tls_certificate=pair[0], tls_key=pair[1]),
        ):
            pass


def _handshake(port: int, context: ssl.SSLContext) -> str | None:
    with (
        socket.create_connection(("localhost", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as encrypted,
    ):
        return encrypted.version()


def _serial(port: int, authority: Authority) -> int:
    pem = ssl.get_server_certificate(("localhost", port), ca_certs=str(authority.certificate_file))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number
