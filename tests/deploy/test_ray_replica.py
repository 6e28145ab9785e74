"""A replica of the Ray application without Ray: its calls, refusals, streams and cancellations."""

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as open_inference_pb
from convd.runtime.session import Session
from convd.service.settings import ServerSettings, SettingsError
from deploy.ray.calls import StreamRefusedError
from deploy.ray.replica import OF_A_TRANSPORT, LoadError, Replica
from testbed.principals import bearer, write_principals
from tests.support import png, running_server
from tests.tiny_artifact import LABELS, publish_tiny

PICTURE = png(Image.radial_gradient("L").convert("RGB"))


@dataclasses.dataclass
class Context:
    """What Ray hands to a method besides the message."""

    metadata: tuple[tuple[str, str], ...] = ()
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: tuple[tuple[str, str], ...] = ()

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self.metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        self.trailers = tuple(trailing_metadata)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    publish_tiny(root, seed=1)
    return root


@contextmanager
def opened(repository: Path, **settings: Any) -> Iterator[Any]:
    replica = Replica(1, repository=repository, load_memory_bytes=0, **settings)
    try:
        yield replica
    finally:
        replica.close()


@pytest.fixture(scope="module")
def replica(repository: Path) -> Iterator[Any]:
    with opened(repository, max_streams=2, stream_idle_seconds=0.5) as replica:
        yield replica


def question(name: str = "pets", encoded: bytes = PICTURE, top_k: int = 0) -> pb.ClassifyRequest:
    model = pb.ModelSpec(name=name)
    return pb.ClassifyRequest(model=model, images=[pb.Image(encoded=encoded)], top_k=top_k)


def test_every_method_of_both_services_is_there_and_answers_in_the_event_loop() -> None:
    for module in (pb, open_inference_pb):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                function = getattr(Replica, method.name)
                assert inspect.isasyncgenfunction(function) == method.server_streaming
                assert inspect.iscoroutinefunction(function) != method.server_streaming


def test_answers_and_refusals_are_those_of_the_plain_server(repository: Path, replica: Any) -> None:
    questions = (
        question(),
        question(top_k=1),
        question("none"),
        question(encoded=b"no picture"),
        question(top_k=-1),
        pb.ClassifyRequest(),
    )
    with running_server(repository) as server:
        for asked in questions:
            context = Context((("x-request-id", "seven"),))
            answer = asyncio.run(replica.Classify(asked, context))
            assert dict(context.trailers)["x-request-id"] == "seven"
            try:
                assert answer == server.stub.Classify(asked)
                assert context.code is grpc.StatusCode.OK
            except grpc.RpcError as error:
                assert (context.code, context.details) == (error.code(), error.details())
                assert answer == pb.ClassifyResponse()
    ready = replica.ServerReady(open_inference_pb.ServerReadyRequest(), Context())
    assert asyncio.run(ready).ready


async def asked(*requests: pb.ClassifyStreamRequest, idle: bool = False) -> AsyncIterator[Any]:
    for request in requests:
        yield request
    if idle:
        await asyncio.Event().wait()


async def collected(answers: AsyncIterator[Any]) -> list[Any]:
    return [answer async for answer in answers]


def test_a_stream_answers_in_order_and_an_error_concerns_its_request_alone(replica: Any) -> None:
    requests = [pb.ClassifyStreamRequest(id=str(n), request=question()) for n in range(5)]
    requests.insert(2, pb.ClassifyStreamRequest(id="bad"))
    answers = asyncio.run(collected(replica.ClassifyStream(asked(*requests), Context())))
    assert [one.id for one in answers] == ["0", "1", "bad", "2", "3", "4"]
    assert [one.HasField("error") for one in answers] == [one.id == "bad" for one in answers]
    explained = replica.Explain(
        pb.ExplainRequest(model=pb.ModelSpec(name="pets"), image=pb.Image(encoded=PICTURE)),
        Context(),
    )
    assert asyncio.run(collected(explained))[-1].HasField("explanation")


def test_streams_have_bounds_and_give_their_places_back(replica: Any) -> None:
    async def scene() -> None:
        first = pb.ClassifyStreamRequest(request=question())
        open_streams = [replica.ClassifyStream(asked(first, idle=True), Context()) for _ in "ab"]
        for stream in open_streams:
            await anext(stream)
        context = Context()
        with pytest.raises(StreamRefusedError, match="too many streams"):
            await anext(replica.ClassifyStream(asked(first), context))
        assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        # One caller leaves; the other is silent for too long.
        await open_streams[0].aclose()
        with pytest.raises(StreamRefusedError, match=r"nothing was sent or received for 0.5 s"):
            await anext(open_streams[1])
        for _ in range(3):
            assert len(await collected(replica.ClassifyStream(asked(first), Context()))) == 1

    asyncio.run(scene())


def test_what_a_caller_has_cancelled_is_not_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, over = threading.Event(), threading.Event()
    run, rows = Session.run, []

    def run_when_told(self: Session, images: Any, *rest: Any, **more: Any) -> Any:
        rows.append(len(images))
        running.set()
        over.wait(20)
        return run(self, images, *rest, **more)

    # The warm-up has to pass.
    over.set()
    monkeypatch.setattr(Session, "run", run_when_told)

    async def scene(replica: Any) -> None:
        first = asyncio.create_task(replica.Classify(question(), Context()))
        await asyncio.to_thread(running.wait, 20)
        gone = [asyncio.create_task(replica.Classify(question(), Context())) for _ in range(4)]
        last = asyncio.create_task(replica.Classify(question(), Context()))
        await asyncio.sleep(0.3)
        for task in gone:
            task.cancel()
        await asyncio.sleep(0.1)
        over.set()
        assert len((await first).results) == len((await last).results) == 1
        results = await asyncio.gather(*gone, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results)

    with opened(repository) as replica:
        rows.clear()
        running.clear()
        over.clear()
        asyncio.run(scene(replica))
    assert sum(rows) == 2


def test_principals_are_asked_for_their_tokens(repository: Path, tmp_path: Path) -> None:
    tokens = write_principals(
        tmp_path / "principals.json", {"shop": ["infer:pets"], "other": ["infer:none"]}
    )
    with opened(repository, principals=tmp_path / "principals.json") as replica:
        for metadata, code in (
            (bearer(tokens["shop"]), grpc.StatusCode.OK),
            (bearer(tokens["other"]), grpc.StatusCode.PERMISSION_DENIED),
            (bearer("stranger"), grpc.StatusCode.UNAUTHENTICATED),
            ((), grpc.StatusCode.UNAUTHENTICATED),
        ):
            context = Context(metadata)
            asyncio.run(replica.Classify(question(), context))
            assert context.code is code
            context = Context(metadata)
            sent = asked(pb.ClassifyStreamRequest(request=question()))
            stream = replica.ClassifyStream(sent, context)
            if code is grpc.StatusCode.OK:
                assert len(asyncio.run(collected(stream))) == 1
            else:
                with pytest.raises(StreamRefusedError):
                    asyncio.run(collected(stream))
            assert context.code is code


def test_settings_that_ray_decides_are_refused_and_a_version_is_pinned(repository: Path) -> None:
    assert set(ServerSettings.model_fields) > OF_A_TRANSPORT
    with pytest.raises(SettingsError, match="http_port, tls_key: on Ray Serve"):
        Replica(repository=repository, tls_key="key.pem", http_port=1)
    with pytest.raises(LoadError, match="pets: no version is published"):
        Replica(repository=repository, models="pets:3", load_memory_bytes=0)
    for version in (1, 2):
        with opened(repository, models=f"pets:{version}") as replica:
            answer = asyncio.run(replica.Classify(question(), Context()))
            assert answer.model_version == version
            assert {one.label for one in answer.results[0].classification.classes} == set(LABELS)
            replica.check_health()
