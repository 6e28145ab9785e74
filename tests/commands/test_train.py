import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from commands.train import command
from models.checkpoint import load_checkpoint
from models.data import load_dataset
from models.evaluation import predict
from models.settings import TrainingSettings


def _train(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("runs") / "digits"
    result = _train("lenet", "--data", "digits", "--output", str(output))
    assert result.exit_code == 0, result.output
    return output, result


def test_lenet_reads_digits(trained: tuple[Path, Result]) -> None:
    output, result = trained
    network, description = load_checkpoint(output)
    assert description.accuracy is not None
    assert description.accuracy.top1 >= 0.98
    assert description.accuracy.examples == 360
    assert f"held-out accuracy {description.accuracy.top1:.2%} of 360" in result.stdout
    assert f"next: convd export {output} --name digits --repository repository" in result.stdout
    # The accuracy is that of the saved weights on the pictures that the description leads to.
    held_out = load_dataset(description.data, seed=description.split_seed).held_out
    predictions = predict(network, held_out, description.preprocessing, description.normalization)
    assert predictions.top1 == description.accuracy.top1
    assert predictions.confusion.sum() == 360
    assert predictions.confusion.diagonal().sum() == round(360 * description.accuracy.top1)


def test_a_checkpoint_is_not_replaced_unasked(trained: tuple[Path, Result]) -> None:
    output, _ = trained
    result = _train("lenet", "--data", "digits", "--output", str(output), "--epochs", "1")
    assert result.exit_code == 1
    assert "--overwrite" in result.output


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        result = _train(
            "lenet", "--data", "digits", "--epochs", "1", "--seed", seed,
            "--output", str(tmp_path / name),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    first, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenett", "--data", "digits"], "did you mean lenet"),
        (["lenet", "--data", "digit"], "use digits"),
        (["lenet", "--data", "digits", "--epochs", "0"], "--epochs"),
        (["lenet", "--data", "digits", "--batch-size", "1"], "--batch-size"),
        (["lenet", "--data", "digits", "--input-size", "64"], "at most 32 x 32"),
        (["lenet", "--data", "digits", "--pooling", "min"], "choose one of max, average, sum"),
        (["lenet", "--data", "digits", "--classes", "1,x"], "no class is named 'x'"),
        (["lenet", "--data", "digits", "--learning-rate", "1e9"], "smaller --learning-rate"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = _train(*arguments, "--output", str(tmp_path / "run"))
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_options_have_the_defaults_of_the_settings() -> None:
    options = {each.name: each.default for each in command.params}
    for name, field in TrainingSettings.model_fields.items():
        if name in options and field.default is not None and not field.is_required():
            assert options[name] == field.default, name


def test_help_needs_no_torch() -> None:
    code = "import sys; import commands.train; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
