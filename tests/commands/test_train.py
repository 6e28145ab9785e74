import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from convd.commands.train import command
from convd.models.checkpoint import load_checkpoint
from convd.models.data import load_dataset
from convd.models.evaluation import predict
from convd.models.settings import TrainingSettings
from tests.models.support import write_folder


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
        (["lenet", "--data", "digits", "--option", "activation=min"], "one of relu, tanh"),
        (["lenet", "--data", "digits", "--option", "dropout=0.1"], "it takes pooling, activation"),
        (["lenet", "--data", "digits", "--option", "dropout"], "NAME=VALUE"),
        (["lenet", "--data", "digits", "--freeze-backbone"], "add --init WEIGHTS"),
        (["lenet", "--data", "digits", "--init", "nothing"], "nothing is no file"),
        (["lenet", "--data", "digits", "--resume", "--overwrite"], "give one of them"),
        (["resnet18", "--data", "digits", "--input-size", "28"], "at least 32 x 32"),
        (["lenet", "--data", "folder:"], "write folder:PATH"),
        (["lenet", "--data", "digits", "--classes", "1,x"], "there is no class 'x'"),
        (["lenet", "--data", "digits", "--learning-rate", "1e9"], "smaller --learning-rate"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = _train(*arguments, "--output", str(tmp_path / "run"))
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (tmp_path / "run" / "checkpoint.json").exists()


def test_options_have_the_defaults_of_the_settings() -> None:
    options = {each.name: each.default for each in command.params}
    for name, field in TrainingSettings.model_fields.items():
        if name in options and field.default and field.default_factory is None:
            assert field.is_required() or options[name] == field.default, name


def test_help_needs_no_torch() -> None:
    code = "import sys; import convd.commands.train; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on(tmp_path: Path) -> None:
    common = ["lenet", "--data", "digits", "--epochs", "10", "--classes", "3,8", "--seed", "4"]
    common += ["--passes-per-epoch", "1"]
    torch.set_num_threads(2)
    assert _train(*common, "--output", str(tmp_path / "whole")).exit_code == 0
    # A run that is resumed with other threads must round as it did before.
    torch.set_num_threads(1)
    output = tmp_path / "parts"
    command_line = [sys.executable, "-m", "convd", "train", *common, "--output", str(output)]
    process = subprocess.Popen(
        command_line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )
    metrics = output / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command with --resume" in printed
    assert load_checkpoint(output).description.training["finished"] is False
    resumed = _train(*common, "--output", str(output), "--resume")
    torch.set_num_threads(1)
    assert resumed.exit_code == 0, resumed.output
    weights = [(each / "model.safetensors").read_bytes() for each in (output, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_a_run_is_summed_up_before_its_first_epoch(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", classes=("ant", "bee"), pictures=6)
    data = f"folder:{tmp_path / 'pets'}"
    result = _train("lenet", "--data", data, "--epochs", "2", "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[:7] == [
        f"data     {data}: 9 pictures to train on, 3 held out",
        "classes  2: ant (6), bee (6)",
        "input    32 x 32, colour, turned upright by EXIF",
        "network  lenet5, 61,326 parameters",
        "weights  random",
        "steps    2 epochs of 32 (32 passes), 16 pictures each, learning rate 0.0125",
        "device   processor, 1 thread",
    ]
    assert result.stderr.splitlines()[7].startswith("epoch 1/2: loss ")


def test_what_is_taken_of_pretrained_weights_is_shown(
    trained: tuple[Path, Result], tmp_path: Path
) -> None:
    output, _ = trained
    result = _train(
        "lenet", "--data", "digits", "--classes", "3,5", "--epochs", "1",
        "--init", str(output), "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (
        f"weights  {output}; a new last layer; left out: output.bias, output.weight\n"
        in result.stderr
    )


def test_a_learning_rate_that_is_too_high_is_noticed(tmp_path: Path) -> None:
    result = _train(
        "lenet", "--data", "digits", "--classes", "0,1,2", "--epochs", "4",
        "--learning-rate", "0.5", "--option", "activation=tanh", "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert result.stderr.count("warning: the loss has risen to ") == 1
    assert "and guessing has 1.10: the learning rate is too high" in result.stderr
    assert "train with --overwrite --learning-rate 0.05" in result.stderr


def test_broken_files_are_shown(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", classes=("ant", "bee"), pictures=6)
    broken = tmp_path / "pets" / "ant" / "0.png"
    broken.write_bytes(b"no picture")
    arguments = ["lenet", "--data", f"folder:{tmp_path / 'pets'}", "--epochs", "1"]
    skipped = _train(*arguments, "--output", str(tmp_path / "run"))
    assert skipped.exit_code == 0, skipped.output
    assert f"skipped {broken}" in skipped.stderr
    assert "8 pictures to train on, 3 held out, 1 that cannot be read left out" in skipped.stderr
    strict = _train(*arguments, "--output", str(tmp_path / "strict"), "--strict-data")
    assert strict.exit_code == 1
    assert f"1 of 12 pictures cannot be read:\n  {broken}" in strict.output
