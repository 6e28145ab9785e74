"""Versions are compared on a real server, off the path of those who call it."""

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from convd.artifact.bundle import Artifact
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.application import Application
from convd.service.lifecycle.configuration import ConfigurationError, parse_configuration
from convd.service.settings import ServerSettings
from convd.service.shadow import mirror
from convd.service.shadow.report import ComparisonReport, Outcome
from convd.service.shadow.shadowing import Shadowing
from testbed.variants import write_confused
from tests.digits import Digits
from tests.support import Client, add_version, code_of, rewrite_manifest, wait_until

SHADOW = "labels: {stable: 1, canary: 2}\nshadow: {share: 1}\n"
UNLIKE = ("3", "8")


@pytest.fixture
def confused(repository: Path, published: Path) -> Path:
    """A repository whose version 2 takes each 3 for an 8, and each 8 for a 3."""
    write_confused(published, repository / "digits" / "2", UNLIKE)
    return repository


class Served:
    """A server in this process whose comparisons a test can look at."""

    def __init__(self, repository: Path, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "grpc_port": 0, "http_port": 0, "poll_seconds": 0.05, "drain_seconds": 5.0,
            "intra_op_threads": 1, "max_batch_size": 8, "load_memory_bytes": 0,
        }  # fmt: skip
        self.repository = repository
        self.application = Application(
            ServerSettings(repository=repository, **(defaults | settings))
        )
        self.application.start()
        wait_until(lambda: not self.application.unready_reason())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.application.grpc_port}")
        self.client = Client(self.channel, self.application.http_port, self.application.grpc_port)

    @property
    def shadowing(self) -> Shadowing:
        return self.application._core.shadowing

    def configure(self, text: str) -> None:
        (self.repository / "digits" / "config.yaml").write_text(text)

    def report(self) -> ComparisonReport:
        (report,) = self.shadowing.reports()
        return report

    def ask(self, *images: bytes, **choice: Any) -> int:
        request = pb.ClassifyRequest(
            model=pb.ModelSpec(name="digits", **choice),
            images=[pb.Image(encoded=image) for image in images],
        )
        return self.client.stub.Classify(request, timeout=20).model_version

    def wait_for(self, compared: int) -> ComparisonReport:
        wait_until(lambda: self.report().compared >= compared)
        return self.report()

    def wait_for_shadow(self) -> None:
        wait_until(lambda: self.shadowing.reports() and not self.report().problem)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Starts servers, which end with the test."""
    servers: list[Served] = []

    def start(repository: Path, configuration: str = SHADOW, **settings: Any) -> Served:
        (repository / "digits" / "config.yaml").write_text(configuration)
        servers.append(Served(repository, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.channel.close()
        server.application.drain()


def test_the_report_names_the_pictures_that_differ(
    confused: Path, digits: Digits, serve: Any
) -> None:
    server = serve(confused)
    server.wait_for_shadow()
    pictures = [digits.encoded(index) for index in range(20)]
    for index, picture in enumerate(pictures):
        assert server.ask(picture) == 1, "the candidate answers only the callers who name it"
        assert server.ask(picture, version_label="canary") == 2
        assert index < 10 or server.report().outcomes[Outcome.DROPPED] == 0
    report = server.wait_for(20)
    unlike = [picture for index, picture in enumerate(pictures) if index % 10 in (3, 8)]
    names = {hashlib.sha256(picture).hexdigest() for picture in unlike}
    assert {one.sha256 for one in report.differences[: len(unlike)]} == names
    assert (report.compared, report.top1, report.top_k) == (20, 16, 20)
    assert report.changes == {("3", "8"): 2, ("8", "3"): 2}
    assert report.live_confidence == pytest.approx(report.candidate_confidence)
    assert (report.live, report.candidate) == (1, 2)
    assert all(one.picture is None for one in report.differences), "nothing is kept by default"
    text = server.client.get("/metrics")[1]
    versions = 'candidate="2",model="digits"'
    assert f'convd_shadow_images_total{{{versions},outcome="compared",version="1"}} 20.0' in text
    assert f'convd_shadow_agreements_total{{{versions},of="top1",version="1"}} 16.0' in text
    assert f'convd_shadow_total_variation_ratio_count{{{versions},version="1"}} 20.0' in text
    # What is compared is no request of the candidate's, and its callers are counted as ever.
    requests = 'convd_images_total{model="digits",version="2"} 20.0'
    assert requests in text
    assert 'reason="cancelled",version="2"} 0.0' in text


def test_a_request_interrupts_a_comparison_that_runs(
    confused: Path, digits: Digits, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(confused)
    server.wait_for_shadow()
    asked = []
    original = Shadowing._ask

    def ask(shadowing: Shadowing, sample: Any, call: Any, pictures: Any) -> None:
        asked.append(call)
        if len(asked) == 1:
            wait_until(lambda: call.cancelled)
        original(shadowing, sample, call, pictures)

    monkeypatch.setattr(Shadowing, "_ask", ask)
    server.ask(digits.encoded())
    wait_until(lambda: asked)
    server.ask(digits.encoded(1))
    report = server.wait_for(2)
    assert len(asked) == 3
    assert report.outcomes == {Outcome.COMPARED: 2}


def test_a_full_queue_drops_what_comes_and_counts_it(
    confused: Path, digits: Digits, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "QUIET_SECONDS", 1000.0)
    monkeypatch.setattr(mirror, "MAX_WAITING_SAMPLES", 4)
    server = serve(confused)
    server.wait_for_shadow()
    server.ask(*[digits.encoded(index) for index in range(12)])
    report = server.report()
    # One has left the queue and waits for idle time.
    assert report.outcomes[Outcome.DROPPED] + report.waiting in (11, 12)
    assert report.waiting <= 4
    begun = time.monotonic()
    server.shadowing.close()
    assert time.monotonic() - begun < 5


def test_the_configuration_is_followed_while_the_server_runs(
    confused: Path, published: Path, digits: Digits, serve: Any
) -> None:
    server = serve(confused, "")
    inference = server.shadowing._inference
    assert inference.mirror is None, "nobody pays for what nobody uses"
    assert server.ask(digits.encoded()) == 2
    server.configure(SHADOW)
    server.wait_for_shadow()
    server.ask(digits.encoded(3))
    server.wait_for(1)
    shutil.rmtree(confused / "digits" / "2")
    wait_until(lambda: server.report().problem)
    assert "canary" in server.report().problem
    assert server.ask(digits.encoded(3)) == 1
    assert server.report().compared == 1, "what was found stays"
    add_version(confused, "digits", published)
    server.wait_for_shadow()
    server.ask(digits.encoded(3))
    report = server.wait_for(1)
    assert (report.compared, report.top1) == (1, 1), "another network under the same number"
    server.configure("labels: {stable: 1, canary: 2}\n")
    wait_until(lambda: inference.mirror is None)
    assert server.shadowing.reports() == []
    server.configure("shadow: {share: 1}\n")
    wait_until(
        lambda: "shadow" in server.client.stub.ListModels(pb.ListModelsRequest()).models[0].reason
    )


@pytest.mark.parametrize("kind", ["thumbnail", "original"])
def test_pictures_are_kept_only_where_the_operator_wants_it(
    kind: str, confused: Path, digits: Digits, serve: Any
) -> None:
    server = serve(confused, SHADOW.replace("share: 1", f"share: 1, pictures: {kind}"))
    server.wait_for_shadow()
    server.ask(digits.encoded(3))
    (difference,) = server.wait_for(1).differences
    assert difference.picture.media_type == "image/png"
    assert (difference.picture.data == digits.encoded(3)) == (kind == "original")
    server.configure(SHADOW)
    wait_until(lambda: server.report().differences[0].picture is None)


def test_a_candidate_with_other_preprocessing_gets_the_picture_prepared_for_it(
    confused: Path, digits: Digits, serve: Any
) -> None:
    version = confused / "digits" / "2"
    recipe = Artifact.open(version).manifest.preprocessing
    # These pictures have no orientation, so the golden answers stay as they are.
    turned = recipe.model_copy(update={"apply_exif_orientation": True})
    rewrite_manifest(version, preprocessing=turned)
    server = serve(confused)
    server.wait_for_shadow()
    server.ask(digits.encoded(0))
    server.wait_for(1)
    prepared = pb.ClassifyRequest(
        model=pb.ModelSpec(name="digits"), images=[pb.Image(prepared=bytes(32 * 32))]
    )
    server.client.stub.Classify(prepared, timeout=20)
    wait_until(lambda: server.report().outcomes[Outcome.UNFIT] == 1)


def test_a_cached_answer_is_compared_like_any_other(
    confused: Path, digits: Digits, serve: Any
) -> None:
    server = serve(confused, response_cache_bytes=2**20)
    server.wait_for_shadow()
    for _ in range(3):
        server.ask(digits.encoded())
    server.wait_for(3)


def test_a_candidate_that_fails_harms_nobody(
    confused: Path, digits: Digits, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(confused)
    server.wait_for_shadow()
    status = server.shadowing._catalog.statuses("digits")[1]

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("as a provider does")

    for runner in status.servable.batcher._schedule.runners.all:
        monkeypatch.setattr(runner, "engine", dataclasses.replace(runner.engine, run=fail))
    assert server.ask(digits.encoded()) == 1
    wait_until(lambda: server.report().outcomes[Outcome.FAILED] == 1)
    assert server.ask(digits.encoded()) == 1


def test_without_the_live_version_the_candidate_answers_only_by_name(
    confused: Path, digits: Digits, serve: Any
) -> None:
    server = serve(confused)
    shutil.rmtree(confused / "digits" / "1")
    wait_until(lambda: server.report().problem)
    code, text = code_of(lambda: server.ask(digits.encoded()))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "candidate" in text
    assert server.ask(digits.encoded(), version=2) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("shadow: {}", "labels has no 'stable'"),
        ("labels: {stable: 1}\nshadow: {}", "labels has no 'canary'"),
        ("labels: {stable: 1, canary: 1}\nshadow: {}", "same version"),
        ("labels: {stable: 1, canary: 2}\nshadow: {share: 0}", "greater than 0"),
        ("labels: {stable: 1, canary: 2}\nshadow: {share: 1.5}", "less than or equal to 1"),
        ("labels: {stable: 1, canary: 2}\nshadow: {share: .nan}", "shadow"),
        ("labels: {stable: 1, canary: 2}\nshadow: {pictures: all}", "'none', 'thumbnail'"),
        ("labels: {stable: 1, canary: 2}\nshadow: {shares: 1}", "shadow"),
    ],
)
def test_a_configuration_that_compares_nothing_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_configuration(text.encode())
    assert reason in refused.value.detail
