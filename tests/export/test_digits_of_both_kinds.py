"""Networks of independent labels and of one logit: trained on digits, calibrated, and served."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from convd.artifact.bundle import Artifact
from convd.artifact.evidence import CalibrationScores
from convd.commands import classify
from convd.commands.export import command
from convd.export.sources.labelled_pictures import load_held_out
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as v2
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.service.protocols.open_inference.tensors import raw_bytes_tensor
from tests.export.digits_of_both_kinds import (
    FLAGS,
    LABELS,
    NAMES,
    make_workplace,
    network,
    pictures_of,
    pixels,
    publish_all,
)
from tests.support import Client, png, running_server

SERVED = 200


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workplace")
    make_workplace(root)
    return root


@pytest.fixture(scope="module")
def repository(workplace: Path) -> Path:
    return publish_all(workplace)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Client]:
    with running_server(repository) as client:
        yield client


def pytorchs(workplace: Path, repository: Path, name: str) -> np.ndarray:
    """PyTorch's probabilities of the served pictures, `[pictures, labels]`."""
    kind = name.partition("-")[0]
    made = network(3 if kind == "several" else 1)
    made.load_state_dict(torch.load(workplace / f"{kind}.pth", weights_only=True))
    temperature = Artifact.open(repository / name / "1").manifest.temperature
    pictures = pictures_of("held_out")[0][:SERVED]
    with torch.inference_mode():
        wanted = (made.eval()(pixels(pictures)) / temperature).sigmoid().numpy()
    return np.concatenate([1 - wanted, wanted], axis=1) if kind == "one" else wanted


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_over_grpc_are_pytorchs(
    workplace: Path, repository: Path, server: Client, name: str
) -> None:
    pictures = pictures_of("held_out")[0][:SERVED]
    wanted = pytorchs(workplace, repository, name)
    found = np.zeros_like(wanted)
    task = pb.TASK_MULTILABEL if name.startswith("several") else pb.TASK_MULTICLASS
    for start in range(0, SERVED, 8):
        files = [png(one) for one in pictures[start : start + 8]]
        response = server.classify(*files, model=name)
        assert response.task == task
        for row, result in enumerate(response.results):
            for one in result.classification.classes:
                found[start + row, one.index] = one.probability
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_classification_over_the_open_inference_protocol_is_pytorchs(
    workplace: Path, repository: Path, server: Client, name: str
) -> None:
    pictures = pictures_of("held_out")[0][:SERVED]
    wanted = pytorchs(workplace, repository, name)
    labels = wanted.shape[1]
    found = np.zeros_like(wanted)
    stub = GRPCInferenceServiceStub(server.channel)
    for start in range(0, SERVED, 8):
        files = [png(one) for one in pictures[start : start + 8]]
        request = v2.ModelInferRequest(model_name=name)
        request.inputs.add(name="encoded_image", datatype="BYTES", shape=[len(files), 1])
        request.raw_input_contents.append(raw_bytes_tensor(files))
        output = request.outputs.add(name="probabilities")
        output.parameters["classification"].int64_param = labels
        (raw,) = stub.ModelInfer(request).raw_output_contents
        elements = re.findall(rb"([\d.]+):(\d):(?:even|above four|loop|odd)", raw)
        assert len(elements) == len(files) * labels
        for number, (value, index) in enumerate(elements):
            found[start + number // labels, int(index)] = float(value)
    # The extension writes six digits.
    assert np.abs(found - wanted).max() < 1.1e-5


@pytest.mark.parametrize("name", NAMES)
def test_convd_classify_shows_pytorchs_probabilities(
    workplace: Path, repository: Path, server: Client, name: str
) -> None:
    # As the table of the workplace names them, in its order.
    files = [str(workplace / "pictures" / f"{number}.png") for number in range(20)]
    words = [*files, "--model", name, "--server", f"127.0.0.1:{server.grpc_port}"]
    wanted = pytorchs(workplace, repository, name)
    done = CliRunner().invoke(classify.command, [*words, "--json"])
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(files)
    independent = name.startswith("several")
    for answer, row in zip(answers, wanted, strict=False):
        assert answer["task"] == ("multilabel" if independent else "multiclass")
        found = {one["index"]: one["probability"] for one in answer["classes"]}
        assert [found[index] for index in range(len(row))] == pytest.approx(row, abs=1e-5)
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(classify.command, words).output
    assert shown.count("100 %") == (len(files) if independent else 0)
    marks = len(re.findall(r"% +✓", shown))
    assert marks == (int((wanted[:20] >= 0.5).sum()) if independent else 0)


def test_the_manifest_and_the_card_say_what_it_is(repository: Path) -> None:
    for name in ("several-module", "several-onnx"):
        artifact = Artifact.open(repository / name / "1")
        manifest = artifact.manifest
        assert manifest.task == "multilabel"
        assert manifest.labels == LABELS
        assert manifest.accuracy is not None
        assert manifest.accuracy.mean_average_precision is not None
        assert manifest.accuracy.mean_average_precision > 0.9
        assert manifest.agreement is not None
        assert manifest.agreement.differing_by_rounding == 0
        assert manifest.baseline is not None
        assert sum(manifest.baseline.predicted_shares) > 1.2
        card = (artifact.folder.path / "MODEL_CARD.md").read_text()
        assert "independent labels, each with a probability of its own" in card
        assert "Mean average precision 0.9" in card
        assert "each prediction is the network's own" in card
        assert "are predicted rightly in every label" in card
        predicted = np.array([case.probabilities for case in artifact.golden_cases().cases]) >= 0.5
        assert predicted.any(axis=0).all()
        assert len(np.unique(predicted, axis=0)) >= 4
    for name, output in (("one-module", "one logit"), ("one-onnx", "one probability")):
        artifact = Artifact.open(repository / name / "1")
        manifest = artifact.manifest
        card = (artifact.folder.path / "MODEL_CARD.md").read_text()
        assert "| Task | classes that exclude each other |" in card
        assert f"| Outputs of the network | {output}" in card
        assert "0: odd, 1: even" in card
        assert "Top-1 accuracy 9" in card
        assert manifest.task == "multiclass"
        assert manifest.labels == ("odd", "even")
        assert manifest.accuracy is not None
        assert manifest.accuracy.top1 > 0.9


def test_calibration_minimises_the_sigmoids_own_loss(repository: Path) -> None:
    manifest = Artifact.open(repository / "several-module" / "1").manifest
    report = manifest.calibration
    assert report is not None
    assert isinstance(report.before, CalibrationScores)
    assert manifest.temperature != 1
    assert report.after.negative_log_likelihood <= report.before.negative_log_likelihood


def test_data_of_the_other_kind_are_refused(workplace: Path, tmp_path: Path) -> None:
    words = [f"{workplace}/several.onnx", "--labels", "even,odd,loop", *FLAGS.split()]
    words += ["--name", "n", "--repository", str(tmp_path), "--dry-run"]
    done = CliRunner().invoke(command, [*words, "--data", f"folder:{workplace / 'parity'}"])
    assert done.exit_code == 1
    assert "the network is multilabel, and --data gives multiclass pictures" in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no table of labels"),
        ("file,even\na.png\n", "line 2: write file,even,loop"),
        ("file,even\na.png,yes\n", "line 2: write file"),
        ("file,even\na.png,1\n", "no column for the label 'odd'"),
        ("file,even,odd,big\na.png,1,0,1\n", "does not know: big"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(Exception, match=message):
        load_held_out(f"multilabel:{tmp_path / 'table.csv'}", ("even", "odd"))
