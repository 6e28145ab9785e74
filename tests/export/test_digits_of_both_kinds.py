"""Networks of independent labels and of one logit: trained on digits, calibrated, and served."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convd.artifact.bundle import Artifact
from convd.artifact.evidence import CalibrationScores
from convd.commands.export import command
from convd.export.sources.labelled_pictures import load_held_out
from convd.models.data import load_dataset
from tests.support import png, running_server

LABELS = ("even", "above four", "loop")
TRUTH = np.array([[digit % 2 == 0, digit > 4, digit in (0, 6, 8, 9)] for digit in range(10)])
SERVED = 200
FLAGS = "--resize 8x8 --channel-order L --mean 0 --std 1"


def network(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(576, outputs)
    )


def pictures_of(part: str) -> tuple[list[Image.Image], NDArray[np.bool_]]:
    data = getattr(load_dataset("digits"), part)
    return [data.picture(index) for index in range(len(data))], TRUTH[
        [data.target(index) for index in range(len(data))]
    ]


def pixels(pictures: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.array(one) for one in pictures]))[:, None] / 255


def train(outputs: int) -> nn.Module:
    pictures, truth = pictures_of("train")
    inputs, targets = pixels(pictures), torch.from_numpy(truth[:, :outputs]).float()
    made = network(outputs)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(60):
        for rows in torch.split(torch.randperm(len(inputs)), 128):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(made(inputs[rows]), targets[rows])
            torch.autograd.backward(loss)
            optimizer.step()
    return made.eval()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: networks as weights, code and ONNX; pictures in a table and in folders."""
    root = tmp_path_factory.mktemp("workplace")
    pictures, truth = pictures_of("held_out")
    (root / "pictures").mkdir()
    with (root / "held.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "loop", "even", "above four"])
        for number, (picture, row) in enumerate(zip(pictures, truth, strict=True)):
            picture.save(root / "pictures" / f"{number}.png")
            table.writerow([f"pictures/{number}.png", *row[[2, 0, 1]].astype(int)])
            folder = root / "parity" / "val" / ("even" if row[0] else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{number}.png")
            train_folder = root / "parity" / "train" / folder.name
            train_folder.mkdir(parents=True, exist_ok=True)
            if number < 40:
                picture.save(train_folder / f"{number}.png")
    for name, outputs in (("several", 3), ("one", 1)):
        made = train(outputs)
        torch.save(made.state_dict(), root / f"{name}.pth")
        (root / f"{name}.py").write_text(
            "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(1, 16, 3), "
            f"nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(576, {outputs})).eval()\n"
        )
        torch.onnx.export(
            nn.Sequential(made, nn.Sigmoid()).eval(),
            (torch.zeros(2, 1, 8, 8),),
            root / f"{name}.onnx",
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    return root


@pytest.fixture(scope="module")
def repository(workplace: Path) -> Path:
    root = workplace / "repository"
    several = ["--labels", "even,above four,loop"]
    data = [f"multilabel:{workplace / 'held.csv'}", f"folder:{workplace / 'parity'}"]
    for name, source, extra in (
        ("several-module", f"{workplace}/several.py:build", [*several, "--activation", "sigmoid"]),
        ("several-onnx", f"{workplace}/several.onnx", several),
        ("one-module", f"{workplace}/one.py:build", ["--labels", "odd,even"]),
        ("one-onnx", f"{workplace}/one.onnx", ["--labels", "odd,even"]),
    ):
        spec = data[0] if name.startswith("several") else data[1]
        words = [source, "--name", name, "--repository", str(root), *FLAGS.split(), *extra]
        words += ["--data", spec, "--calibrate", spec]
        if source.endswith(":build"):
            words += ["--weights", f"{workplace / name.partition('-')[0]}.pth"]
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
        assert "the network itself gives the same predictions on all" in done.output
    return root


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_probabilities_over_grpc_are_pytorchs(workplace: Path, repository: Path) -> None:
    pictures, _ = pictures_of("held_out")
    pictures = pictures[:SERVED]
    with running_server(repository) as client:
        for name in ("several-module", "several-onnx", "one-module", "one-onnx"):
            kind = name.partition("-")[0]
            made = network(3 if kind == "several" else 1)
            made.load_state_dict(torch.load(workplace / f"{kind}.pth", weights_only=True))
            manifest = Artifact.open(repository / name / "1").manifest
            with torch.inference_mode():
                wanted = (made.eval()(pixels(pictures)) / manifest.temperature).sigmoid().numpy()
            if kind == "one":
                wanted = np.concatenate([1 - wanted, wanted], axis=1)
            found = np.zeros_like(wanted)
            for start in range(0, SERVED, 8):
                files = [png(one) for one in pictures[start : start + 8]]
                for row, result in enumerate(client.classify(*files, model=name).results):
                    for one in result.classification.classes:
                        found[start + row, one.index] = one.probability
            assert np.abs(found - wanted).max() < 1e-5, name


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
        card = (artifact.path / "MODEL_CARD.md").read_text()
        assert "independent labels, each with a probability of its own" in card
        assert "Mean average precision 0.9" in card
        assert "each prediction is the network's own" in card
        predicted = np.array([case.probabilities for case in artifact.golden_cases().cases]) >= 0.5
        assert predicted.any(axis=0).all()
        assert len(np.unique(predicted, axis=0)) >= 4
    for name in ("one-module", "one-onnx"):
        manifest = Artifact.open(repository / name / "1").manifest
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
