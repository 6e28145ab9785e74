"""A gRPC server that answers as a test says, for what a whole server does too seldom."""

import contextlib
import datetime
import ipaddress
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1 import classification_pb2_grpc as pb_grpc

Answer = Callable[[pb.ClassifyRequest, grpc.ServicerContext], pb.ClassifyResponse]


class _Servicer(pb_grpc.ClassificationServiceServicer):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def Classify(  # noqa: N802
        self, request: pb.ClassifyRequest, context: grpc.ServicerContext
    ) -> pb.ClassifyResponse:
        return self._answer(request, context)

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]:
        for message in request_iterator:
            yield pb.ClassifyStreamResponse(response=self._answer(message.request, context))

    def ListComparisons(  # noqa: N802
        self, request: pb.ListComparisonsRequest, context: grpc.ServicerContext
    ) -> pb.ListComparisonsResponse:
        raise NotImplementedError

    def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        raise NotImplementedError

    def Explain(  # noqa: N802
        self, request: pb.ExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExplainResponse]:
        raise NotImplementedError

    def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        raise NotImplementedError


@contextlib.contextmanager
def scripted_server(
    answer: Answer, credentials: grpc.ServerCredentials | None = None
) -> Iterator[str]:
    """Run it until the block ends; its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_ClassificationServiceServicer_to_server(_Servicer(answer), server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def a_cat(request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
    """Takes every image for a cat."""
    del context
    cat = pb.ClassProbability(index=1, label="cat", probability=0.75)
    result = pb.ImageResult(classification=pb.Classification(classes=[cat]))
    return pb.ClassifyResponse(
        model_name=request.model.name,
        model_version=3,
        results=[result] * len(request.images),
        task=pb.TASK_MULTICLASS,
    )


def own_certificate(name: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """A certificate that signs itself, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
