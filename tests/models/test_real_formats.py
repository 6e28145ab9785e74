import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from convd.models.checkpoint import load_checkpoint
from convd.models.data import DatasetSplits, load_dataset
from convd.models.data.dataset import targets_of
from convd.models.errors import DataError
from convd.models.settings import TrainingSettings
from convd.models.training import train
from tests.models.support import striped, write_cifar10, write_folder, write_idx, write_mnist

PETS = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pets", classes=PETS, pictures=18)
    return tmp_path / "pets"


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    write_mnist(tmp_path / "mnist", pictures=60, zipped=False)
    return tmp_path / "mnist"


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    write_cifar10(tmp_path / "cifar-10-batches-py", pictures=20)
    return tmp_path / "cifar-10-batches-py"


def test_a_folder_is_divided_by_a_seed(folder: Path) -> None:
    splits = load_dataset(f"folder:{folder}", seed=1)
    assert splits.labels == PETS
    assert (len(splits.train), len(splits.held_out)) == (43, 11)
    assert set(targets_of(splits.held_out)) == {0, 1, 2}
    modes = {splits.train.picture(index).mode for index in range(len(splits.train))}
    assert modes == {"L", "RGB", "P", "CMYK"}


@pytest.mark.parametrize("held_out", ["val", "valid", "test"])
def test_a_folder_may_be_divided_already(tmp_path: Path, held_out: str) -> None:
    write_folder(tmp_path / "train", classes=PETS, pictures=4)
    write_folder(tmp_path / held_out, classes=PETS[1:], pictures=2)
    splits = load_dataset(f"folder:{tmp_path}")
    assert splits.labels == splits.held_out.labels == PETS
    assert targets_of(splits.held_out) == [1, 1, 2, 2]
    assert f"{held_out}/" in splits.held_out_name


def test_broken_files_are_listed_and_skipped(folder: Path) -> None:
    broken = _break(folder)
    splits = load_dataset(f"folder:{folder}")
    assert len(splits.train) + len(splits.held_out) == 52
    assert len(splits.broken_files) == 2
    for file in broken:
        assert any(str(file) in problem for problem in splits.broken_files)
    with pytest.raises(DataError, match="2 of 54 pictures cannot be read") as caught:
        load_dataset(f"folder:{folder}", strict=True)
    assert all(str(file) in str(caught.value) for file in broken)


def _divide_without_a_readable_bee(root: Path) -> None:
    for part in ("train", "val"):
        write_folder(root / part, classes=PETS, pictures=2)
    for file in (root / "train" / "bee").iterdir():
        file.write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: (root / "note.txt").write_text("no folder"), "holds no folders"),
        (lambda root: (root / "cat").mkdir(), "has one class, 'cat', and a classifier needs two"),
        (
            lambda root: write_folder(root / "inner", classes=PETS, pictures=1),
            "if its folders are the classes, give folder:.*inner",
        ),
        (
            lambda root: write_folder(root, classes=PETS, pictures=1),
            r"ant has too few pictures \(1\): each class needs at least 2, one to train on",
        ),
        (
            _divide_without_a_readable_bee,
            r"bee has too few pictures \(0; 2 cannot be read, such as .*bee.*\): .* at least 1; ",
        ),
    ],
    ids=["empty", "one class", "one folder too many", "one picture", "no readable picture"],
)
def test_a_folder_that_cannot_be_trained_on(
    tmp_path: Path, prepare: Callable[[Path], object], message: str
) -> None:
    prepare(tmp_path)
    with pytest.raises(DataError, match=message):
        load_dataset(f"folder:{tmp_path}")


def _break(folder: Path) -> list[Path]:
    cut, empty = folder / "ant" / "1.jpg", folder / "cat" / "0.png"
    cut.write_bytes(cut.read_bytes()[:200])
    empty.write_bytes(b"")
    (folder / "bee" / "notes.txt").write_text("no picture")
    (folder / "bee" / "._0.png").write_bytes(b"what macOS leaves")
    return [cut, empty]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load_dataset(f"folder:{tmp_path / 'nothing'}")
    write_folder(tmp_path / "train", classes=("ant", "bee"), pictures=2)
    write_folder(tmp_path / "val", classes=("ant", "wasp"), pictures=2)
    with pytest.raises(DataError, match=r"a class 'wasp' that .*train lacks"):
        load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read(tmp_path: Path, *, zipped: bool) -> None:
    write_mnist(tmp_path, pictures=30, zipped=zipped)
    splits = load_dataset(f"mnist:{tmp_path}")
    assert (len(splits.train), len(splits.held_out)) == (30, 30)
    assert splits.labels == tuple("0123456789")
    np.testing.assert_array_equal(np.asarray(splits.train.picture(13)), striped(3, 28, 13))
    assert splits.train.target(13) == 3


def test_fashion_mnist_has_its_labels(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", pictures=30, zipped=True)
    assert load_dataset(f"mnist:{tmp_path}").labels[9] == "Ankle boot"


def test_a_damaged_mnist(mnist: Path) -> None:
    images = mnist / "t10k-images-idx3-ubyte"
    good = images.read_bytes()
    for bad, message in (
        (good[:-1], "promises 47,040 values and holds 47,039"),
        (good[:9], "within its header"),
        (b"PNG", "is not an IDX file"),
        (b"\0\0\x0d" + good[3:], "only uint8"),
    ):
        images.write_bytes(bad)
        with pytest.raises(DataError, match=message):
            load_dataset(f"mnist:{mnist}")
    write_idx(images, np.zeros((5, 28, 28), np.uint8), zipped=False)
    with pytest.raises(DataError, match="do not belong together"):
        load_dataset(f"mnist:{mnist}")
    images.unlink()
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(f"mnist:{mnist}")
    (mnist / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="has no file t10k-images"):
        load_dataset(f"mnist:{mnist}")
    with pytest.raises(DataError, match="does not hold MNIST"):
        load_dataset(f"mnist:{mnist.parent}")


@pytest.mark.parametrize("given", ["folder", "parent", "archive", "folder of archive"])
def test_cifar10_is_read(cifar10: Path, given: str) -> None:
    archive = cifar10.parent / "cifar-10-python.tar.gz"
    if "archive" in given:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(cifar10, cifar10.name)
        for file in cifar10.iterdir():
            file.unlink()
    path = {"folder": cifar10, "archive": archive}.get(given, cifar10.parent)
    splits = load_dataset(f"cifar10:{path}")
    assert (len(splits.train), len(splits.held_out)) == (100, 20)
    picture = splits.train.picture(23)
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture)[:, :, 1], striped(3, 32, 1003))
    assert splits.labels[splits.train.target(23)] == "cat"


def test_four_classes_of_cifar10(cifar10: Path) -> None:
    splits = load_dataset(f"cifar10:{cifar10}", classes=("cat", "dog", "ship", "bird"))
    assert splits.labels == ("cat", "dog", "ship", "bird")
    assert (len(splits.train), len(splits.held_out)) == (40, 8)
    np.testing.assert_array_equal(
        np.asarray(splits.held_out.picture(0))[:, :, 0], striped(2, 32, 5002)
    )
    assert splits.held_out.target(0) == 3


def test_a_broken_batch_of_cifar10(cifar10: Path) -> None:
    batch = cifar10 / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-5000])
    splits = load_dataset(f"cifar10:{cifar10}")
    assert len(splits.train) == 80
    assert "data_batch_3 is damaged" in splits.broken_files[0]
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        load_dataset(f"cifar10:{cifar10}", strict=True)
    (cifar10 / "test_batch").write_bytes(b"")
    with pytest.raises(DataError, match="test_batch is damaged"):
        load_dataset(f"cifar10:{cifar10}")


class _Executes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_a_batch_that_executes_code_is_refused(cifar10: Path) -> None:
    (cifar10 / "test_batch").write_bytes(pickle.dumps({"data": _Executes()}, protocol=2))
    with pytest.raises(DataError, match=r"asks for posix\.system"):
        load_dataset(f"cifar10:{cifar10}")


def test_no_cifar10(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not hold CIFAR-10"):
        load_dataset(f"cifar10:{tmp_path}")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="is damaged"):
        load_dataset(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "mnist", "cifar10"])
def test_each_format_trains(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    root = request.getfixturevalue(kind)
    if kind == "folder":
        _break(root)
    classes = ("bee", "cat") if kind == "folder" else _labels(kind, root)[2:5]
    settings = TrainingSettings(
        architecture="lenet5",
        data=f"{kind}:{root}",
        classes=classes,
        epochs=15,
        batch_size=16,
        learning_rate=0.02,
        augment=False,
    )
    console = Console(quiet=True)
    result = train(settings, tmp_path / "run", console=console)
    description = load_checkpoint(tmp_path / "run").description
    assert description == result.description
    assert description.labels == classes
    assert description.in_channels == (1 if kind == "mnist" else 3)
    assert description.accuracy is not None
    # Counting stripes is easy: an untrained network is right once in three.
    assert description.accuracy.top1 >= 0.8


def test_colour_pictures_train_in_grayscale_too(folder: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(
        architecture="lenet5", data=f"folder:{folder}", channels=1, epochs=1
    )
    result = train(settings, tmp_path / "run", console=Console(quiet=True))
    assert result.description.in_channels == 1


def _labels(kind: str, root: Path) -> tuple[str, ...]:
    splits: DatasetSplits = load_dataset(f"{kind}:{root}")
    return splits.labels


def test_a_picture_that_breaks_after_the_check(folder: Path) -> None:
    splits = load_dataset(f"folder:{folder}")
    for file in folder.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="the image is empty"):
        splits.train.picture(0)
