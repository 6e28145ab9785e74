"""Training, export and serving prepare a picture alike, whatever the recipe."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from torch import nn

from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import ImageArray, Preprocessing
from convd.commands.export import command
from convd.export.proof.recipe import reference_pixels
from convd.export.report.golden_cases import GoldenPictures
from convd.models.data import load_dataset
from convd.models.data.dataset import ImageDataset
from convd.models.data.prepared import PreparedDataset
from tests.artifact.odd_pictures import odd_files
from tests.artifact.recipe_references import REFERENCES
from tests.support import Client, http_request, running_server
from tests.tiny_artifact import publish_tiny

LARGE = ("1x4000", "4000x1", "640x427", "427x640", "500x333", "255x257", "224x223")
FILES = {name: data for name, data in odd_files() if not name.endswith(LARGE)}
NAMES = {name: f"m{number}" for number, name in enumerate(REFERENCES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The odd files as a data set, half of them of each class; all of them are held out."""
    root = tmp_path_factory.mktemp("photos")
    for part in ("train", "val"):
        for number, data in enumerate(FILES.values()):
            path = root / part / "ab"[number % 2] / f"{number:02d}.{extension(data)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def extension(data: bytes) -> str:
    starts = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"BM": "bmp"}
    return next(name for start, name in starts.items() if data.startswith(start))


@pytest.fixture(scope="module")
def held_out(folder: Path) -> ImageDataset:
    return load_dataset(f"folder:{folder}").held_out


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that has a model for every recipe."""
    repository = tmp_path_factory.mktemp("repository")
    for name, reference in REFERENCES.items():
        publish_tiny(repository, NAMES[name], recipe=reference.recipe)
    with running_server(repository) as running:
        yield running


@pytest.mark.parametrize("name", REFERENCES)
def test_no_picture_differs_between_training_export_and_serving(
    name: str, client: Client, held_out: ImageDataset, tmp_path: Path
) -> None:
    recipe = REFERENCES[name].recipe
    (trained,) = PreparedDataset(held_out, recipe).in_order(len(held_out))
    in_training = trained.images.numpy()
    in_order = [*list(FILES.values())[::2], *list(FILES.values())[1::2]]
    # The export's golden pictures are files again; its proof has the recipe a second time.
    golden = GoldenPictures(tmp_path, held_out, list(range(len(held_out))), recipe)
    proved = [reference_pixels(each, recipe) for each in golden.decoded]
    assert (golden.images == np.stack(proved)).all()
    for row, data in zip(in_training, in_order, strict=True):
        assert (reference_pixels(decode_image(data), recipe) == row).all()
        assert (served_pixels(client, NAMES[name], data, recipe) == row).all()


def served_pixels(client: Client, model: str, data: bytes, recipe: Preprocessing) -> ImageArray:
    """What the server gives to the network, as its console shows it: RGB or grayscale."""
    path = f"/api/classify?model={model}"
    answer = json.loads(http_request(client.http_port, "POST", path, data)[2])
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["input_png"]))))
    pixels = shown.reshape(recipe.output_shape)
    return pixels[..., ::-1] if recipe.channel_order == "BGR" else pixels


SOURCE = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 16, 5, stride=2)
    head = nn.Linear(16, 2)
    nn.init.normal_(head.weight, std=4)
    return nn.Sequential(
        convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    ).eval()
"""


def by_hand(picture: Image.Image) -> Image.Image:
    """The recipe of the flags below, as somebody would write it with Pillow."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("L").convert("RGB")
    picture = ImageOps.invert(picture)
    return ImageOps.pad(picture, (32, 24), Image.Resampling.LANCZOS, (114, 114, 114))


def test_probabilities_over_grpc_are_those_of_the_network_after_the_recipe(
    folder: Path, tmp_path: Path
) -> None:
    file, repository = tmp_path / "net.py", tmp_path / "repository"
    file.write_text(SOURCE)
    words = f"{file}:build --name odd --repository {repository} --labels a,b --data folder:{folder}"
    words += " --resize 24x32 --fit letterbox --fill 114,114,114 --interpolation lanczos"
    words += " --background white --grayscale --invert --exif-orientation --mean 0.5 --std 0.25"
    exported = CliRunner().invoke(command, words.split())
    assert exported.exit_code == 0, exported.output
    for line in (
        "resize           to fit into 24 x 32, filled with #727272  [--resize]",
        "EXIF orientation applied  [--exif-orientation]",
        "alpha            laid on white  [--background]",
        "grayscale        the same in every channel  [--grayscale]",
        "inversion        light and dark exchanged  [--invert]",
    ):
        assert line in exported.output
    namespace: dict[str, object] = {}
    exec(SOURCE, namespace)  # noqa: S102
    network = namespace["build"]()  # type: ignore[operator]
    assert isinstance(network, nn.Module)
    pictures = [by_hand(Image.open(io.BytesIO(data))) for data in FILES.values()]
    pixels = torch.from_numpy(np.stack([np.asarray(each) for each in pictures]))
    with torch.inference_mode():
        expected = network((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25).softmax(dim=1).numpy()
    assert np.ptp(expected[:, 0]) > 0.05
    with running_server(repository) as running:
        found = np.zeros_like(expected)
        for row, data in zip(found, FILES.values(), strict=True):
            (result,) = running.classify(data, model="odd").results
            for one in result.classification.classes:
                row[one.index] = one.probability
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--fit letterbox", "--fit letterbox needs a size: give --resize 224x224 too"),
        ("--resize 24x32 --fill white", "--fill is the colour of --fit letterbox or --fit pad"),
        ("--resize 24x32 --fit pad", "--fit pad makes squares: give --resize one size"),
        ("--resize 24 --fit pad --fill 1,2,999", "is not a colour: write white, #727272"),
        ("--resize 24 --fit pad --fill whitish", "is not a colour: write white, #727272"),
        ("--resize 24x24 --crop-share 1.2", "1.2 is not in the range 0<x<=1"),
        ("--resize 24x24 --interpolation spline", "'spline' is not one of"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: str, message: str, tmp_path: Path
) -> None:
    words = f"net.py:build --name odd --repository {tmp_path} --labels a,b {flags}"
    refused = CliRunner().invoke(command, words.split())
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
