"""Small data sets in the formats of the real ones."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def striped(target: int, side: int, seed: int) -> Pixels:
    """A noisy grayscale picture that shows its class: `target + 1` bright stripes."""
    noise = np.random.default_rng([target, seed]).integers(0, 60, (side, side), np.uint8)
    rows = np.arange(side) * 2 * (target + 1) // side % 2
    return noise + (rows * 180).astype(np.uint8)[:, np.newaxis]


def write_folder(root: Path, *, classes: tuple[str, ...], pictures: int) -> None:
    """One folder per class, with files of many formats and colour modes."""
    kinds = [
        ("L", "png"),
        ("RGB", "jpg"),
        ("P", "png"),
        ("CMYK", "jpg"),
        ("RGBA", "webp"),
        ("RGB", "bmp"),
    ]
    for target, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(pictures):
            mode, suffix = kinds[index % len(kinds)]
            gray = Image.fromarray(striped(target, 40, index))
            colour = gray.convert("RGB")
            picture = gray if mode == "L" else colour.convert(mode)
            picture.save(root / name / f"{index}.{suffix}")


def write_idx(path: Path, values: Pixels, *, zipped: bool) -> None:
    """One file of MNIST's format."""
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    data = bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def write_mnist(root: Path, *, pictures: int, zipped: bool) -> None:
    """MNIST's four files with ten classes."""
    root.mkdir(parents=True, exist_ok=True)
    for part, seed in (("train", 0), ("t10k", 1000)):
        targets = np.arange(pictures, dtype=np.uint8) % 10
        images = np.stack([striped(int(t), 28, seed + i) for i, t in enumerate(targets)])
        write_idx(root / f"{part}-images-idx3-ubyte", images, zipped=zipped)
        write_idx(root / f"{part}-labels-idx1-ubyte", targets, zipped=zipped)


def write_cifar10(root: Path, *, pictures: int) -> None:
    """CIFAR-10's six pickles, as Python 2 wrote the published ones."""
    root.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        targets = [index % 10 for index in range(pictures)]
        rows = np.stack(
            [np.tile(striped(t, 32, number * 1000 + i).ravel(), 3) for i, t in enumerate(targets)]
        )
        (root / name).write_bytes(_python2_pickle(rows, targets))


def _python2_pickle(rows: Pixels, targets: list[int]) -> bytes:
    """`{"data": rows, "labels": targets}` in protocol 2, with Python 2's byte strings."""

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def call(module: str, name: str, *arguments: bytes) -> bytes:
        return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"

    array_type = b"cnumpy\nndarray\n"
    array = call("numpy.core.multiarray", "_reconstruct", array_type, b"(K\0t", string(b"b"))
    uint8 = call("numpy", "dtype", string(b"u1"), b"K\0", b"K\1")
    uint8 += b"(K\3" + string(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\0tb"
    shape = b"(" + b"".join(map(integer, rows.shape)) + b"t"
    array += b"(K\1" + shape + uint8 + b"\x89" + string(rows.tobytes()) + b"tb"
    labels = b"](" + b"".join(map(integer, targets)) + b"e"
    pairs = string(b"data") + array + string(b"labels") + labels
    return b"\x80\2}(" + pairs + b"u."
