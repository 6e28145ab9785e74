"""HTTPS and client certificates of the HTTP port, with real certificates on loopback."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from testbed.authorities import Authority
from testbed.principals import write_principals
from testbed.server import http_get
from tests.support import running_server, wait_until


@pytest.fixture(scope="module")
def port(authority: Authority, models: Path) -> Iterator[int]:
    """A server with HTTPS, where anyone may do everything."""
    certificate, key = authority.issue("server")
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        yield client.http_port


def context_of(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    if own is not None:
        context.load_cert_chain(*own)
    return context


def get(port: int, path: str, context: ssl.SSLContext, **headers: str) -> int:
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_python_and_curl(port: int, authority: Authority) -> None:
    assert http_get(port, "/readyz", authority=authority.certificate_file) == (200, "ready\n")
    url = f"https://localhost:{port}/livez"
    words = ["curl", "--silent", "--show-error", "--cacert", str(authority.certificate_file), url]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"live\n"


def test_curl_refuses_an_unknown_authority(port: int, tmp_path: Path) -> None:
    stranger = str(Authority(tmp_path, "stranger").certificate_file)
    words = ["curl", "--silent", "--cacert", stranger, f"https://localhost:{port}/livez"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 60


def test_plain_http_is_refused(port: int) -> None:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/livez")
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("hosts", "expired"), [(("elsewhere.example",), False), (("localhost",), True)]
)
def test_clients_refuse_a_wrong_name_and_an_expired_certificate(
    authority: Authority, models: Path, hosts: tuple[str, ...], expired: bool
) -> None:
    certificate, key = authority.issue(f"bad-{hosts[0]}", hosts=hosts, expired=expired)
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            get(client.http_port, "/livez", context_of(authority))
        # A refused handshake leaves nothing behind.
        other = ssl.create_default_context()
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        assert get(client.http_port, "/livez", other) == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(
    port: int, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = context_of(authority)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(port, "/livez", context)


def test_the_certificate_is_replaced_under_load(models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    stop, statuses = threading.Event(), list[int]()

    def on_one_connection() -> None:
        context = context_of(authority)
        connection = http.client.HTTPSConnection("localhost", own, timeout=10, context=context)
        while not stop.is_set():
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    def on_new_connections() -> None:
        while not stop.is_set():
            statuses.append(get(own, "/livez", context_of(authority)))

    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        own = client.http_port
        callers = [threading.Thread(target=one) for one in (on_one_connection, on_new_connections)]
        for caller in callers:
            caller.start()
        try:
            before = _serial(own, authority)
            for _ in range(2):
                authority.issue("server")
                wait_until(lambda: _serial(own, authority) != before)  # noqa: B023
                before = _serial(own, authority)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
    assert set(statuses) == {200}


def test_client_certificates_beside_tokens(
    models: Path, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("mutual")
    principals = tmp_path / "principals.json"
    token = write_principals(principals, {"lab": ["metrics:read"]})["lab"]
    entries = json.loads(principals.read_text())["principals"]
    mesh = {"name": "mesh", "scopes": ["metrics:read"], "certificates": ["spiffe://test/mesh"]}
    principals.write_text(json.dumps({"principals": [*entries, mesh]}))
    with running_server(
        models,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=authority.certificate_file,
        principals=principals,
    ) as client:
        port, own = client.http_port, authority.issue("mesh", hosts=(), uri="spiffe://test/mesh")
        assert get(port, "/metrics", context_of(authority, own)) == 200
        assert get(port, "/api/models", context_of(authority, own)) == 403
        other = authority.issue("other", hosts=())
        assert get(port, "/metrics", context_of(authority, other)) == 401
        # Probes have no certificate, and tokens need none.
        assert get(port, "/livez", context_of(authority)) == 200
        assert get(port, "/metrics", context_of(authority)) == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert get(port, "/metrics", context_of(authority), **headers) == 200
        stranger = Authority(tmp_path / "stranger").issue("mesh", uri="spiffe://test/mesh")
        for bad in (stranger, authority.issue("old", uri="spiffe://test/mesh", expired=True)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(port, "/metrics", context_of(authority, bad))


def test_without_principals_a_client_certificate_is_required(
    models: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("required")
    with running_server(
        models,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=authority.certificate_file,
    ) as client:
        own = authority.issue("anyone", hosts=())
        assert get(client.http_port, "/metrics", context_of(authority, own)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(client.http_port, "/livez", context_of(authority))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_the_authority_of_its_client(
    models: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A resumed session brings its client's certificate, which is not verified again."""
    authority, next_one = Authority(tmp_path), Authority(tmp_path, "next")
    certificate, key = authority.issue("server")
    clients = tmp_path / "clients.pem"
    shutil.copyfile(authority.certificate_file, clients)
    context = context_of(authority, authority.issue("mesh"))
    context.maximum_version = version

    def ask(port: int, session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        with (
            socket.create_connection(("localhost", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as encrypted,
        ):
            encrypted.sendall(
                b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            return encrypted.recv(15), encrypted.session

    def is_refused(port: int, session: ssl.SSLSession | None) -> bool:
        # TLS 1.3 tells a client with the first bytes that it reads; a connection may just end.
        try:
            return not ask(port, session)[0]
        except OSError:
            return True

    with running_server(
        models, tls_certificate=certificate, tls_key=key, tls_client_ca=clients
    ) as client:
        answer, session = ask(client.http_port, None)
        assert answer == b"HTTP/1.1 200 OK"
        shutil.copyfile(next_one.certificate_file, clients)
        wait_until(lambda: is_refused(client.http_port, None))
        assert is_refused(client.http_port, session)


def test_files_that_do_not_fit_leave_the_pair_that_was_read_last(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where nobody has connected since that one was read."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    with running_server(models, tls_certificate=certificate, tls_key=key) as client:
        caplog.set_level("INFO")
        authority.issue("server")
        second = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        wait_until(lambda: "read a new certificate" in caplog.text)
        shutil.copyfile(authority.issue("another")[0], certificate)
        wait_until(lambda: "is not the key of the certificate" in caplog.text)
        assert _serial(client.http_port, authority) == second


def _serial(port: int, authority: Authority) -> int:
    pem = ssl.get_server_certificate(("localhost", port), ca_certs=str(authority.certificate_file))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number
