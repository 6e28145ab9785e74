"""Image files in one folder per class, the layout of torchvision's `ImageFolder`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from convd.models.augmentation import Augmentation
from convd.models.data.dataset import HELD_OUT_SHARE, DatasetSplits, ImageDataset, split
from convd.models.data.files import Report, find_broken, read_picture
from convd.models.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TRAIN_FOLDERS = ("train",)
HELD_OUT_FOLDERS = ("val", "valid", "validation", "test")


class FilesDataset:
    """Image files and their classes.

    Args:
        labels: Class names.
        files: The files.
        targets: Index of each file's class in `labels`.
    """

    def __init__(
        self, labels: Sequence[str], files: Sequence[Path], targets: Sequence[int]
    ) -> None:
        self.labels = tuple(labels)
        self._files = files
        self._targets = targets

    def __len__(self) -> int:
        return len(self._files)

    def picture(self, index: int) -> Image.Image:
        """Decode one file, in its own colour mode.

        Raises:
            DataError: The file was removed or damaged after it was checked.
        """
        return read_picture(self._files[index])

    def target(self, index: int) -> int:
        """Index of its class in `labels`."""
        return self._targets[index]


def load_folder_splits(root: Path, *, seed: int, strict: bool, report: Report) -> DatasetSplits:
    """Load a folder that holds one folder per class.

    The sub-folders `train` and `val` (or `valid`, `validation`, `test`) divide the pictures;
    without them, 20 % of each class is held out. Hidden files, and files without the extension of
    a JPEG, PNG, WebP or BMP, are ignored.

    Args:
        root: The folder.
        seed: Selects the held-out files.
        strict: Whether a broken file is an error; otherwise it is skipped and listed.
        report: Called with a text at the start of each slow step.

    Raises:
        DataError: There are no classes, too few pictures, or, with `strict`, broken files.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give one that holds a folder per class")
    train_root = _first_folder(root, TRAIN_FOLDERS)
    held_out_root = _first_folder(root, HELD_OUT_FOLDERS)
    if train_root is not None and held_out_root is not None:
        labels = _classes(train_root)
        unknown = sorted(set(_classes(held_out_root)) - set(labels))
        if unknown:
            raise DataError(
                f"{held_out_root} has a class {unknown[0]!r} that {train_root} lacks: give both "
                "the same classes"
            )
        train, broken = _load(train_root, labels, strict=strict, report=report, least=1)
        held_out, more = _load(held_out_root, labels, strict=strict, report=report, least=0)
        broken += more
        name = f"the pictures of {held_out_root.name}/ in {root}"
        if len(held_out) == 0:
            raise DataError(
                f"{held_out_root} has no pictures: the extensions {', '.join(EXTENSIONS)} are read"
            )
        return _splits(train, held_out, name, broken)
    everything, broken = _load(root, _classes(root), strict=strict, report=report, least=2)
    rest, aside = split(everything, share=HELD_OUT_SHARE, seed=seed)
    return _splits(rest, aside, f"20 % of {root}, held out with seed {seed}", broken)


def _splits(
    train: ImageDataset,
    held_out: ImageDataset,
    name: str,
    broken: list[str],
) -> DatasetSplits:
    return DatasetSplits(
        train=train,
        held_out=held_out,
        held_out_name=name,
        channels=3,
        keep_aspect_ratio=True,
        augmentation=Augmentation(rotation_degrees=5, shift=0.1, scale=0.15, flip=True),
        broken_files=tuple(broken),
    )


def _load(
    root: Path, labels: Sequence[str], *, strict: bool, report: Report, least: int
) -> tuple[FilesDataset, list[str]]:
    """The files of each class, of which at least so many have to be pictures; and broken ones."""
    found = [
        (file, target)
        for target, label in enumerate(labels)
        for file in sorted((root / label).rglob("*"))
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".") and file.is_file()
    ]
    broken = find_broken([file for file, _ in found], report)
    if broken and strict:
        listed = "\n".join(f"  {problem}" for problem in broken.values())
        raise DataError(f"{len(broken)} of {len(found)} pictures cannot be read:\n{listed}")
    good = [(file, target) for file, target in found if file not in broken]
    files, targets = [file for file, _ in good], [target for _, target in good]
    counts = Counter(targets)
    for target, label in enumerate(labels):
        if counts[target] < least:
            reasons = [broken[file] for file, kind in found if kind == target and file in broken]
            also = f"; {len(reasons)} cannot be read, such as {reasons[0]}" if reasons else ""
            why = ", one to train on and one to hold out" if least > 1 else ""
            raise DataError(
                f"{root / label} has too few pictures ({counts[target]}{also}): each class needs "
                f"at least {least}{why}; {', '.join(EXTENSIONS)} are read"
            )
    return FilesDataset(labels, files, targets), list(broken.values())


def _classes(root: Path) -> list[str]:
    """Names of the folders, in the order of the targets."""
    folders = sorted(each.name for each in root.iterdir() if each.is_dir() and each.name[0] != ".")
    if len(folders) > 1:
        return folders
    if not folders:
        raise DataError(
            f"{root} holds no folders: put the pictures of each class into a folder named after it"
        )
    (only,) = folders
    inner = [each.name for each in (root / only).iterdir() if each.is_dir()]
    hint = f"; if its folders are the classes, give folder:{root / only}" if inner else ""
    raise DataError(f"{root} has one class, {only!r}, and a classifier needs two or more{hint}")


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
