"""The steps from a JPEG to a network's input on one core, and the ways to shorten them.

A way counts if its pixels are those that are served, bit for bit. Decoders are compared on JPEGs of
every kind that cameras and programs write.
"""

import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import onnxruntime as ort
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from bench.document import table
from convd.artifact.bundle import MODEL_FILE
from convd.artifact.decoding import decode_image
from convd.artifact.graph_contract import IMAGE
from convd.artifact.preprocessing import (
    CenterCrop,
    Preprocessing,
    ResizeShorterSide,
    prepare_image,
    sizes_of,
)
from convd.artifact.repository import ModelRepository
from convd.runtime.cpu import CPU

RECIPE = Preprocessing(
    resize=ResizeShorterSide(size=256), center_crop=CenterCrop(height=224, width=224)
)
_DEMO = Path("deploy/demo")
_RUNS = 60
_LARGE = 6
"""How many times wider a large picture is: 3,840 x 2,562 pixels."""


def alternatives(picture: Image.Image) -> list[str]:
    """Measure steps and alternatives.

    Args:
        picture: A photograph of mode `RGB`.

    Returns:
        Paragraphs of a document.
    """
    return [
        f"Milliseconds of one core, medians of {_RUNS} runs. The recipe: the shorter side to 256, "
        "224 x 224 from the middle, bilinear.",
        _steps(picture),
        _decoders(picture),
        _cutting_first(picture),
        _reduced_scale(picture),
    ]


def _jpeg(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **({"quality": 90} | options))
    return buffer.getvalue()


def _steps(picture: Image.Image) -> str:
    data = _jpeg(picture)
    pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    size = sizes_of(*picture.size, RECIPE).scaled
    steps: list[tuple[str, Callable[[], object]]] = [
        ("libjpeg-turbo's part of decoding", lambda: simplejpeg.decode_jpeg(data, "RGB")),
        ("its pixels as Pillow keeps them", lambda: Image.fromarray(pixels)),
        ("**decoding**, with all checks", lambda: decode_image(data)),
        (
            "Pillow's part of preparing",
            lambda: picture.resize((size.width, size.height), Image.Resampling.BILINEAR),
        ),
        ("**preparing**", lambda: prepare_image(picture, RECIPE)),
    ]
    return table(["Step", "ms"], [(name, _milliseconds(step)) for name, step in steps])


def _decoders(picture: Image.Image) -> str:
    ways: dict[str, Callable[[bytes], NDArray[np.uint8]]] = {
        "simplejpeg, as served": _served,
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "OpenCV": _opencv,
        "simplejpeg, fast DCT": lambda data: simplejpeg.decode_jpeg(data, "RGB", fastdct=True),
        "simplejpeg, fast upsampling": lambda data: simplejpeg.decode_jpeg(
            data, "RGB", fastupsample=True
        ),
    }
    kinds = _kinds(picture)
    data = _jpeg(picture)
    rows = []
    for name, decode in ways.items():
        same = sum(_is_same(decode, one) for one in kinds)
        took = _milliseconds(partial(decode, data))
        rows.append((name, took, f"{same} of {len(kinds)}"))
    return (
        "Decoders, each to an array of 640 x 427 pixels, and for how many kinds of JPEG their "
        "pixels are those that are served (subsampling 4:4:4, 4:2:2, 4:2:0, 4:4:0 and 4:1:1; RGB, "
        "grayscale and CMYK, sequential, progressive and with restart markers; odd sizes):\n\n"
        + table(["Decoder", "ms", "Same pixels"], rows)
    )


def _served(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode_image(data).convert("RGB"))


def _opencv(data: bytes) -> NDArray[np.uint8]:
    # Without the flag, OpenCV would turn pictures upright.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags), np.uint8)


def _is_same(decode: Callable[[bytes], NDArray[np.uint8]], data: bytes) -> bool:
    # Some cannot decode CMYK at all.
    try:
        return np.array_equal(decode(data), _served(data))
    except (cv2.error, ValueError):
        return False


def _kinds(picture: Image.Image) -> list[bytes]:
    kinds = []
    for size in ((640, 427), (33, 17), (1, 1)):
        part = picture.crop((0, 0, *size))
        pixels = np.ascontiguousarray(np.asarray(part))
        kinds += [
            simplejpeg.encode_jpeg(pixels, 90, colorsubsampling=sampling)
            for sampling in ("444", "422", "420", "440", "411")
        ]
        kinds += [
            _jpeg(part.convert(mode), **options)
            for mode in ("RGB", "L", "CMYK")
            for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3})
        ]
    return kinds


def _cutting_first(picture: Image.Image) -> str:
    """Pillow's `box` would scale only what the crop keeps."""
    height, width = sizes_of(*picture.size, RECIPE).scaled
    assert RECIPE.center_crop is not None  # noqa: S101
    left, top, right, bottom = RECIPE.center_crop.box(width, height)
    across, down = picture.width / width, picture.height / height
    box = (left * across, top * down, right * across, bottom * down)

    def cut_first() -> Image.Image:
        return picture.resize((224, 224), Image.Resampling.BILINEAR, box=box)

    cut = np.asarray(cut_first()).astype(int)
    difference = np.abs(cut - prepare_image(picture, RECIPE))
    return (
        f"Scaling only what the crop keeps, by Pillow's `box`, takes {_milliseconds(cut_first)} ms "
        f"in place of {_milliseconds(lambda: prepare_image(picture, RECIPE))}, but "
        f"{np.count_nonzero(difference)} of {difference.size} values differ, by up to "
        f"{difference.max()}: Pillow reckons the box in single precision. Training scales the "
        "whole picture, so serving does."
    )


def _reduced_scale(picture: Image.Image) -> str:
    """Decode at an eighth to seven eighths of the size, by libjpeg's smaller DCT."""
    large = picture.resize((_LARGE * picture.width, _LARGE * picture.height))
    data = _jpeg(large)
    height, width = sizes_of(*large.size, RECIPE).scaled

    def reduced(data: bytes, height: int, width: int, colorspace: str = "RGB") -> Image.Image:
        pixels = simplejpeg.decode_jpeg(data, colorspace, min_height=height, min_width=width)
        return Image.fromarray(pixels.squeeze())

    whole = _milliseconds(lambda: prepare_image(decode_image(data), RECIPE), 10)
    part = _milliseconds(lambda: prepare_image(reduced(data, height, width), RECIPE), 10)
    artifact = ModelRepository(_DEMO).open_version("digits", 1)
    recipe = artifact.manifest.preprocessing
    session = ort.InferenceSession(artifact.read(MODEL_FILE), providers=[CPU.name])
    answers = []
    for case in artifact.golden_cases().cases:
        golden = Image.open(io.BytesIO(artifact.read(PurePosixPath(case.image)))).convert("L")
        encoded = _jpeg(golden.resize((1024, 1024), Image.Resampling.BICUBIC))
        size = sizes_of(1024, 1024, recipe).scaled
        images = (decode_image(encoded), reduced(encoded, *size, "GRAY"))
        stacked = np.stack([prepare_image(image, recipe) for image in images])
        full, small = session.run(["probabilities"], {IMAGE.name: stacked})[0]
        answers.append(float(np.abs(full - small).max()))
    tolerance = CPU.tolerances["float32"].golden
    return (
        f"Decoding a picture of {large.width} x {large.height} pixels at the smallest scale that "
        f"still has the pixels of the scaled picture, and preparing it, takes {part} ms in place "
        f"of {whole}. The answers change: by up to {max(answers):.1g} in a probability, over the "
        f"demo's {len(answers)} golden pictures of digits as JPEGs of 1,024 x 1,024 pixels. The "
        f"golden tolerance is {tolerance:g}."
    )


def _milliseconds(step: Callable[[], object], runs: int = _RUNS) -> str:
    step()
    times = []
    for _ in range(runs):
        started = time.thread_time()
        step()
        times.append(time.thread_time() - started)
    return f"{statistics.median(times) * 1000:.2f}"
