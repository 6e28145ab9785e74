"""What an export leaves on disk: the promise, the evidence, and nothing half done."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from convd.artifact.bundle import MANIFEST_FILE, MODEL_FILE, Artifact, write_manifest
from convd.artifact.golden import GOLDEN_CASES
from convd.artifact.manifest import Manifest
from convd.artifact.repository import ModelRepository
from convd.commands import export, verify
from convd.export.options import ExportOptions
from convd.export.publication import Published, publish
from convd.export.sources.labelled_pictures import load_held_out
from convd.runtime.cpu import CPU
from convd.runtime.providers import KNOWN_PROVIDERS
from tests.artifact.signing import KEY, private_pem, public_pem
from tests.export.digits import ClassMeans, trained_on_digits
from tests.support import rewrite_manifest


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A network that reads digits, three times as sure as it should be, calibrated."""
    source = trained_on_digits(ClassMeans(sharpness=3.0))
    options = ExportOptions(calibration_data=load_held_out("digits", source.labels))
    return publish(source, ModelRepository(tmp_path_factory.mktemp("r")), "digits", options)


def test_the_manifest_holds_the_evidence(calibrated: Published) -> None:
    manifest = Manifest.model_validate_json((calibrated.path / MANIFEST_FILE).read_bytes())
    assert manifest.accuracy is not None
    assert 0.85 < manifest.accuracy.top1 < 1
    cpu = next(one for one in manifest.parity if one.provider == CPU.name)
    assert cpu.batch_sizes == (1, 2, 7, 32)
    assert cpu.images == 4 * (1 + 2 + 7 + 32)
    assert cpu.max_probability_difference <= 1e-5
    assert cpu.within_limit
    assert cpu.top1_agreement == 1
    calibration = manifest.calibration
    assert calibration is not None
    assert manifest.temperature > 1.2
    assert (
        calibration.after.expected_calibration_error < calibration.before.expected_calibration_error
    )
    baseline = manifest.baseline
    assert baseline is not None
    assert baseline.examples == manifest.accuracy.examples
    assert sum(baseline.predicted_shares) == pytest.approx(1)
    assert min(baseline.predicted_shares) > 0.05
    assert sum(baseline.confidence_shares) == pytest.approx(1)


def test_the_card_shows_the_figures_and_the_plots(calibrated: Published) -> None:
    card = (calibrated.path / "MODEL_CARD.md").read_text()
    assert "expected calibration error" in card
    assert f"temperature of {calibrated.manifest.temperature:.4g}" in card
    for plot in ("plots/reliability.png", "plots/confusion.png"):
        assert f"]({plot})" in card
        assert (calibrated.path / plot).read_bytes().startswith(b"\x89PNG")
        assert plot in calibrated.manifest.files


def test_golden_cases_are_files_of_both_formats_with_every_class(calibrated: Published) -> None:
    artifact = Artifact.open(calibrated.path)
    cases = artifact.golden_cases().cases
    assert {Path(case.image).suffix for case in cases} == {".png", ".jpeg"}
    assert len({int(np.argmax(case.probabilities)) for case in cases}) >= 8
    for provider in KNOWN_PROVIDERS:
        promised = artifact.manifest.golden_tolerance(provider.name, provider.precision)
        assert promised == provider.tolerances[provider.precision].golden


def test_triton_would_load_the_tree_as_it_is(calibrated: Published) -> None:
    """`NAME/VERSION/model.onnx`, batch first, standard operators, no file beside it needed."""
    path = calibrated.path / MODEL_FILE
    assert path.parts[-3:] == ("digits", "1", "model.onnx")
    model = onnx.load(path, load_external_data=False)
    assert not any(one.external_data for one in model.graph.initializer)
    assert {one.domain for one in model.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not model.functions
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [one.dim_value or one.dim_param for one in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    batch = found["image"][1][0]
    assert isinstance(batch, str)
    assert found == {
        "image": (onnx.TensorProto.UINT8, [batch, 8, 8, 1]),
        "probabilities": (onnx.TensorProto.FLOAT, [batch, 10]),
        "logits": (onnx.TensorProto.FLOAT, [batch, 10]),
    }
    folders = [entry.name for entry in path.parent.parent.iterdir() if entry.is_dir()]
    assert folders == ["1"]


def run_export(*words: object) -> Result:
    return CliRunner().invoke(export.command, [str(word) for word in words])


def run_verify(*words: object) -> Result:
    return CliRunner().invoke(verify.command, [str(word) for word in words])


def test_verify_has_a_row_for_every_provider(published: Path) -> None:
    result = run_verify(published)
    assert result.exit_code == 0, result.output
    for provider in KNOWN_PROVIDERS:
        assert provider.name in result.output
        if provider.why_missing() is not None:
            assert "absent" in result.output
    assert "of 1e-04 allowed" in result.output


def test_verify_refuses_a_tampered_file(published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "1"
    shutil.copytree(published, copy)
    path = copy / GOLDEN_CASES
    cases = json.loads(path.read_text())
    cases["cases"][0]["probabilities"][0] += 0.1
    path.write_text(json.dumps(cases))
    result = run_verify(copy)
    assert result.exit_code == 1
    assert "does not match its checksum" in " ".join(result.output.split())


def test_verify_says_where_nothing_is_promised(published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "1"
    shutil.copytree(published, copy)
    rewrite_manifest(copy, golden_tolerances={"CPUExecutionProvider": {}})
    result = run_verify(copy)
    assert "not promised" in result.output


def test_signing_and_verifying_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    key.write_bytes(private_pem(KEY))
    public.write_bytes(public_pem(KEY))
    repository = tmp_path / "repository"
    result = run_export(checkpoint, "--name", "d", "--repository", repository, "--sign", key)
    assert result.exit_code == 0, result.output
    version = repository / "d" / "1"
    assert run_verify(version, "--verify-with", public).exit_code == 0
    (repository / "d" / "config.yaml").write_text("max_batch_size: 4\n")
    result = run_export(checkpoint, "--name", "d", "--repository", repository, "--sign", key)
    assert (result.exit_code, "config.yaml was added after" in result.output) == (1, True)
    assert not (repository / "d" / "2").exists()
    (repository / "d" / "config.yaml").unlink()
    write_manifest(version, Artifact.open(version).manifest.model_copy(update={"temperature": 2.0}))
    result = run_verify(version, "--verify-with", public)
    assert result.exit_code == 1
    assert "it was altered after publication" in " ".join(result.output.split())
    assert run_verify(version, "--verify-with", key).exit_code == 1


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    checkpoint: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    result = run_export(checkpoint, "--name", "d", "--repository", repository, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "uint8 [batch, 32, 32, 1]" in result.output
    assert str(repository / "d" / "1") in result.output
    assert not repository.exists()
    refused = run_export(checkpoint, "--name", "a/b", "--repository", repository, "--dry-run")
    assert refused.exit_code == 1
    assert "not a valid model name" in refused.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resize", "0"], "write 224, or 240x320"),
        (["--resize", "1x2x3"], "write 224, or 240x320"),
        (["--mean", "a"], "write 0.485,0.456,0.406"),
        (["--labels", "missing.txt"], "a file with one name per line"),
        (["--sign", "missing.pem"], "the key missing.pem cannot be read"),
        (["--calibrate", "nonsense"], "unknown data set 'nonsense'"),
        (["--precision", "int8"], "give --quantization-data"),
        (["--calibration-data", "digits"], "write --quantization-data SPEC for what int8 sees"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_done(
    words: list[str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    result = run_export(checkpoint, "--name", "d", "--repository", tmp_path / "r", *words)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "r" / "d").exists() or os.listdir(tmp_path / "r" / "d") == []
