"""The self-test compares answers, and asks more than one of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.graph_contract import OutputArrays, Outputs
from convd.runtime.cpu import CPU
from convd.runtime.selftest import SelfTestError, run_self_test
from convd.runtime.session import Session
from testbed.published_graphs import publish_network
from tests.tiny_artifact import HEIGHT, LABELS, RECIPE, WIDTH, publish_tiny

NEARLY_EVEN = np.array([[0.34, 0.33, 0.33], [0.33, 0.34, 0.33]])


class Certain(Session):
    """Gives one answer, near enough to every golden one."""

    def run(self, images: NDArray[np.uint8], *special: Any, **named: Any) -> OutputArrays:
        outputs = super().run(images, *special, **named)
        row = np.array([[0.335, 0.33, 0.335]], np.float32)
        answers: NDArray[np.float32] = np.repeat(row, len(images), axis=0)
        return Outputs(answers, outputs.logits)


def artifact_of(tmp_path: Path, probabilities: NDArray[np.float64], task: str) -> Artifact:
    publish_tiny(tmp_path, "source")
    network = (tmp_path / "source" / "1" / MODEL_FILE).read_bytes()
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    golden = [(picture, row) for row in probabilities]
    tolerances = {CPU.name: {"float32": 0.05}}
    publish_network(
        tmp_path, "pets", network, LABELS, RECIPE, golden, golden_tolerances=tolerances, task=task
    )
    return Artifact.open(tmp_path / "pets" / "1")


def test_one_answer_to_all_is_refused_where_several_are_promised(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path, NEARLY_EVEN, "multiclass")
    session = Certain(artifact.read(MODEL_FILE), CPU)
    with pytest.raises(SelfTestError, match="get the same answer"):
        run_self_test(artifact, session)


def test_one_answer_is_right_where_one_is_promised(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path, NEARLY_EVEN[:1], "multiclass")
    assert run_self_test(artifact, Certain(artifact.read(MODEL_FILE), CPU)) < 0.05


def test_independent_labels_have_an_answer_each(tmp_path: Path) -> None:
    promised = np.array([[0.34, 0.33, 0.33], [0.34, 0.33, 0.33]])
    artifact = artifact_of(tmp_path, promised, "multilabel")
    assert run_self_test(artifact, Certain(artifact.read(MODEL_FILE), CPU)) < 0.05
