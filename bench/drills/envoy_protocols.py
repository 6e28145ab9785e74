"""Each way to ask convd through Envoy, and what is not for callers."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc

from bench.drills.envoy_stage import Row, Stage
from bench.drills.server import MODEL, request
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.envoy import Envoy


def protocols(stage: Stage) -> Iterator[Row]:
    """Each way to ask, to servers with and without TLS."""
    for encrypted in (False, True):
        to = "with" if encrypted else "without"
        with stage.edge(encrypted=encrypted) as (_, edge), stage.connection(edge).open() as channel:
            stub = ClassificationServiceStub(channel)
            large = request(*[stage.image + bytes(2**20)] * 20)
            answers = {
                "call": len(stub.Classify(request(stage.image), timeout=10).results),
                "20 MiB": len(stub.Classify(large, timeout=30).results),
                "stream": len(list(stub.ClassifyStream(iter(_stream(stage.image)), timeout=10))),
                "HTTP": _status(stage, edge, f"/v1/classify/{MODEL}", stage.image),
                "/metrics": _status(stage, edge, "/metrics"),
                "reflection": _code(channel, "/grpc.reflection.v1alpha.ServerReflection/Any"),
            }
        seen = ", ".join(f"{what}: {answer}" for what, answer in answers.items())
        right = [1, 20, 2, 200, 403, "PERMISSION_DENIED"]
        bound = ", ".join(map(str, right))
        yield f"answers, to servers {to} TLS", seen, bound, list(answers.values()) == right


def _stream(image: bytes) -> list[pb.ClassifyStreamRequest]:
    return [pb.ClassifyStreamRequest(id=name, request=request(image)) for name in "ab"]


def _status(stage: Stage, edge: Envoy, path: str, body: bytes | None = None) -> int:
    tls = ssl.create_default_context(cafile=str(stage.authority.certificate_file))
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"https://{edge.address}{path}", data=body),
            timeout=10,
            context=tls,
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _code(channel: grpc.Channel, method: str) -> str:
    try:
        channel.unary_unary(method, bytes, bytes)(b"", timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
