import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.graph_contract import OutputArrays
from convd.artifact.precision import Precision
from convd.runtime.choice import PrecisionPolicy, ProviderChoice, candidates, prove_session
from convd.runtime.cpu import CPU
from convd.runtime.cuda import CUDA
from convd.runtime.errors import SessionError
from convd.runtime.openvino import OPENVINO, OPENVINO_BFLOAT16
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS, installed_providers
from convd.runtime.session import Session
from tests.support import rewrite_manifest


def one_thread(model: bytes, provider: ExecutionProvider) -> Session:
    return Session(model, provider, intra_op_threads=1)


def with_tolerances(
    published: Path, tmp_path: Path, tolerances: dict[str, dict[Precision, float]]
) -> Artifact:
    path = tmp_path / "artifact"
    shutil.copytree(published, path)
    manifest = Artifact.open(path).manifest
    merged = {**manifest.golden_tolerances, **tolerances}
    rewrite_manifest(path, golden_tolerances=merged)
    return Artifact.open(path)


def test_auto_takes_the_first_that_is_here_and_says_why_not_the_others(published: Path) -> None:
    proven = prove_session(Artifact.open(published), one_thread)
    assert proven.session.provider == installed_providers()[0]
    tried = KNOWN_PROVIDERS[: KNOWN_PROVIDERS.index(proven.session.provider)]
    assert [refusal.provider for refusal in proven.refusals] == list(tried)
    for refusal in proven.refusals:
        assert refusal.reason == f"cannot be used: {refusal.provider.why_missing()}"


@pytest.mark.parametrize(
    ("wanted", "policy", "expected"),
    [
        ("auto", "fastest", [CUDA, OPENVINO_BFLOAT16, OPENVINO, CPU]),
        ("auto", "exact", [CUDA, OPENVINO, CPU]),
        ("openvino", "fastest", [OPENVINO_BFLOAT16, OPENVINO]),
        ("openvino", "exact", [OPENVINO]),
        ("cpu", "fastest", [CPU]),
        ("cuda", "exact", [CUDA]),
    ],
)
def test_what_is_tried(
    wanted: ProviderChoice, policy: PrecisionPolicy, expected: list[ExecutionProvider]
) -> None:
    assert candidates(wanted, policy) == expected


def test_wrong_answers_are_refused_and_the_next_provider_is_taken(
    published: Path,
) -> None:
    artifact = Artifact.open(published)

    class Certain(Session):
        """Computes the network, and then gives the first class to every picture."""

        def run(self, images: NDArray[np.uint8], *special: Any, **named: Any) -> OutputArrays:
            outputs = super().run(images, *special, **named)
            outputs.probabilities[:] = np.eye(1, outputs.probabilities.shape[1])
            return outputs

    def load(model: bytes, provider: ExecutionProvider) -> Session:
        if provider == CPU:
            return one_thread(model, CPU)
        session = Certain(model, CPU, intra_op_threads=1)
        session.provider = provider
        return session

    proven = prove_session(artifact, load)
    assert proven.session.provider == CPU
    assert [refusal.provider for refusal in proven.refusals] == list(KNOWN_PROVIDERS[:-1])
    for refusal in proven.refusals:
        assert "golden probabilities differ by" in refusal.reason
        assert "more than the tolerance of" in refusal.reason


def test_a_provider_whose_runs_fail_is_refused(published: Path) -> None:
    class Failing(Session):
        def run(self, images: NDArray[np.uint8], *special: Any, **named: Any) -> OutputArrays:  # noqa: ARG002
            raise RuntimeError("out of memory")

    def load(model: bytes, provider: ExecutionProvider) -> Session:
        kind = Session if provider == CPU else Failing
        return kind(model, CPU, intra_op_threads=1)

    proven = prove_session(Artifact.open(published), load)
    told = {(refusal.reason, refusal.detail) for refusal in proven.refusals}
    assert told == {("cannot run the network", "cannot run the network: out of memory")}


def test_where_nothing_is_left_every_reason_is_told(published: Path, tmp_path: Path) -> None:
    artifact = with_tolerances(published, tmp_path, {CPU.name: {"float32": 1e-30}})
    with pytest.raises(SessionError) as caught:
        prove_session(artifact, one_thread, wanted="cpu")
    assert str(caught.value).startswith(
        "CPUExecutionProvider (float32): golden probabilities differ by"
    )


@pytest.mark.parametrize("wanted", ["cuda", "openvino"])
def test_a_provider_that_was_asked_for_is_never_replaced(
    published: Path, wanted: ProviderChoice
) -> None:
    try:
        proven = prove_session(Artifact.open(published), one_thread, wanted=wanted)
    except SessionError as error:
        assert "CPUExecutionProvider" not in str(error)
    else:
        assert proven.session.provider != CPU


def test_a_damaged_artifact_is_no_matter_of_providers(published: Path, tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    shutil.copytree(published, path)
    case = next((path / "golden").glob("*.png"))
    case.write_bytes(case.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match=case.name) as caught:
        prove_session(Artifact.open(path), one_thread)
    assert not isinstance(caught.value, SessionError)


@pytest.mark.parametrize("provider", KNOWN_PROVIDERS[:-1], ids=str)
def test_a_tolerance_below_the_difference_falls_back(
    provider: ExecutionProvider, published: Path, tmp_path: Path
) -> None:
    reason = provider.why_missing()
    if reason is not None:
        pytest.skip(f"{provider} {reason}")
    none_but_the_cpu: dict[str, dict[Precision, float]] = {
        known.name: {known.precision: 1e-30} for known in KNOWN_PROVIDERS[:-1]
    }
    artifact = with_tolerances(published, tmp_path, none_but_the_cpu)
    proven = prove_session(artifact, one_thread)
    assert proven.session.provider == CPU
    reasons = {refusal.provider: refusal.reason for refusal in proven.refusals}
    assert "tolerance of" in reasons[provider] or "promises nothing" in reasons[provider]
