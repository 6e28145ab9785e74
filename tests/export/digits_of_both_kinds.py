"""Networks of independent labels and of one logit: trained on digits, and published."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convd.commands.export import command
from convd.models.data import load_dataset

LABELS = ("even", "above four", "loop")
TRUTH = np.array([[digit % 2 == 0, digit > 4, digit in (0, 6, 8, 9)] for digit in range(10)])
NAMES = ("several-module", "several-onnx", "one-module", "one-onnx")
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


def make_workplace(root: Path) -> None:
    """Make a user's folder: networks as weights, code and ONNX; pictures in a table and folders."""
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
        with warnings.catch_warnings():
            # The exporter's own use of what PyTorch deprecates.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                nn.Sequential(made, nn.Sigmoid()).eval(),
                (torch.zeros(2, 1, 8, 8),),
                root / f"{name}.onnx",
                input_names=["x"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )


def publish_all(workplace: Path, names: Sequence[str] = NAMES) -> Path:
    """Publish these networks of a workplace, calibrated, into a repository, which is returned."""
    root = workplace / "repository"
    several = ["--labels", "even,above four,loop"]
    data = [f"multilabel:{workplace / 'held.csv'}", f"folder:{workplace / 'parity'}"]
    for name, source, extra in (
        ("several-module", f"{workplace}/several.py:build", [*several, "--activation", "sigmoid"]),
        ("several-onnx", f"{workplace}/several.onnx", several),
        ("one-module", f"{workplace}/one.py:build", ["--labels", "odd,even"]),
        ("one-onnx", f"{workplace}/one.onnx", ["--labels", "odd,even"]),
    ):
        if name not in names:
            continue
        spec = data[0] if name.startswith("several") else data[1]
        words = [source, "--name", name, "--repository", str(root), *FLAGS.split(), *extra]
        words += ["--data", spec, "--calibrate", spec]
        if source.endswith(":build"):
            words += ["--weights", f"{workplace / name.partition('-')[0]}.pth"]
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
        assert "the network itself gives the same predictions on all" in done.output
    return root
