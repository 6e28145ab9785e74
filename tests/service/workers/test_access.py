"""TLS, tokens and limits with several workers, as processes of their own."""

import http.client
import json
import ssl
from pathlib import Path

import grpc
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.access.scopes import EVERYTHING
from testbed.authorities import Authority
from testbed.principals import bearer, write_principals
from testbed.server import ServerProcess, http_get, server_process
from tests.digits import Digits
from tests.support import wait_until

pytestmark = pytest.mark.slow

CONNECTIONS = 8
OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED


def http_post(server: ServerProcess, path: str, body: bytes, token: str) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(server.authority))
    connection = http.client.HTTPSConnection("localhost", server.http_port, context=context)
    try:
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_every_worker_asks_for_tokens_and_follows_the_files(
    repository: Path, tmp_path: Path, digits: Digits
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    file = tmp_path / "principals.json"
    tokens = write_principals(file, {"lab": EVERYTHING, "camera": ["infer:digits"]})
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(encoded=digits.encoded())]
    )
    credentials = grpc.ssl_channel_credentials(authority.pem)

    def statuses(token: str) -> set[grpc.StatusCode]:
        """The status of a call on each of several connections, which reach all workers."""
        found = set()
        for _ in range(CONNECTIONS):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.secure_channel(server.address, credentials, options) as channel:
                stub = ClassificationServiceStub(channel)
                try:
                    stub.Classify(request, timeout=20, metadata=bearer(token))
                    found.add(OK)
                except grpc.RpcError as error:
                    found.add(error.code())
        return found

    flags = ["--workers", 2, "--principals", file]
    flags += ["--tls-certificate", certificate, "--tls-key", key]
    with server_process(
        repository,
        tmp_path / "log",
        *flags,
        authority=certificate.parent / "authority.pem",
        token=tokens["lab"],
    ) as server:
        assert statuses(tokens["camera"]) == {OK}
        assert statuses("wrong") == {UNAUTHENTICATED}
        counted = server.counted("convd_principal_requests_total")
        assert counted['code="OK",principal="camera"'] == CONNECTIONS
        assert counted['code="UNAUTHENTICATED",principal="anonymous"'] == CONNECTIONS
        # The supervisor decides on requests over HTTP, and a worker knows whose they are.
        anonymous = http_get(server.http_port, "/metrics", authority=server.authority)
        assert anonymous[0] == 401
        counted = server.counted("convd_principal_requests_total")
        assert counted['code="UNAUTHENTICATED",principal="anonymous"'] == CONNECTIONS + 1
        path = "/v1/classify/digits"
        status, body = http_post(server, path, digits.encoded(), tokens["camera"])
        assert status == 200, body
        counted = server.counted("convd_principal_requests_total")
        assert counted['code="OK",principal="camera"'] == CONNECTIONS + 1

        kept = [one for one in json.loads(file.read_text())["principals"] if one["name"] == "lab"]
        file.with_suffix(".new").write_text(json.dumps({"principals": kept}))
        file.with_suffix(".new").rename(file)
        wait_until(lambda: statuses(tokens["camera"]) == {UNAUTHENTICATED})
        assert statuses(tokens["lab"]) == {OK}
