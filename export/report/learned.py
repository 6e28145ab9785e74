"""What a network has learned, in pictures for its card.

The filters of the first layer and the feature maps stage by stage are what Zeiler and Fergus look
at in "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from convd.artifact.class_activation import class_activation_map, shows_places
from convd.artifact.graph_contract import OutputArrays
from convd.artifact.heat_map import overlay
from convd.artifact.preprocessing import ImageArray, picture_of, prepare_image
from convd.export.graph.head import Head
from convd.export.proof.reference import network_input
from convd.export.report.evaluation import Evaluation
from convd.export.source import TrainedNetwork
from convd.models.stages import StagedNetwork

_FOLDER = PurePosixPath("plots")
_TILE = 64
_GAP = 2
_COLUMNS = 8
_MAX_FILTERS = 64
_MAX_PICTURES = 16


class CardPicture(NamedTuple):
    """A picture of the card: its file, relative to the artifact, and what it shows."""

    file: PurePosixPath
    caption: str


def draw_learned(
    folder: Path,
    source: TrainedNetwork,
    golden: ImageArray,
    answers: OutputArrays,
    head: Head | None,
    evaluation: Evaluation | None,
) -> list[CardPicture]:
    """Draw what a network has learned into its artifact.

    Args:
        folder: The artifact.
        source: The network.
        golden: The golden pictures, prepared: uint8 `[pictures, height, width, channels]`.
        answers: What the artifact answers to them.
        head: The last layer; None where it was not read.
        evaluation: The answers to the evaluation data; None where there were none.
    """
    drawn = [
        *_filters(source.network),
        *_stages(source, golden[:1]),
        *_class_maps(source, golden, answers, head),
        *_doubts(source, evaluation),
    ]
    shown = []
    for name, caption, tiles in drawn:
        file = _FOLDER / f"{name}.png"
        (folder / file).parent.mkdir(exist_ok=True)
        _mosaic(tiles).save(folder / file)
        shown.append(CardPicture(file, caption))
    return shown


_Drawn = tuple[str, str, Sequence[NDArray[np.uint8]]]
"""Name, caption and tiles of a picture, each `[height, width]` or `[height, width, 3]`."""


def _filters(network: nn.Module) -> Iterable[_Drawn]:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not layers or layers[0].weight.shape[1] not in (1, 3) or layers[0].kernel_size[0] < 3:
        return
    weights = layers[0].weight.detach().float()[:_MAX_FILTERS].permute(0, 2, 3, 1).numpy()
    tiles = [_scaled(each if each.shape[2] == 3 else each[..., 0]) for each in weights]
    yield (
        "filters",
        f"The filters of the first layer, {len(tiles)} of {len(layers[0].weight)}.",
        tiles,
    )


def _stages(source: TrainedNetwork, image: ImageArray) -> Iterable[_Drawn]:
    if not isinstance(source.network, StagedNetwork):
        return
    inputs = torch.from_numpy(network_input(image, source.normalization))
    with torch.inference_mode():
        for name, value in source.network.stages(inputs):
            if value.ndim != 4 or min(value.shape[2:]) < 2:
                continue
            maps = value[0].numpy()
            # Those that say most about this picture.
            chosen = np.sort(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_COLUMNS])
            size = " x ".join(map(str, maps.shape))
            caption = f"Feature maps of the first golden picture after `{name}`, {size}: the "
            yield f"stage-{name}", f"{caption}most varied ones.", [_scaled(maps[i]) for i in chosen]


def _class_maps(
    source: TrainedNetwork, golden: ImageArray, answers: OutputArrays, head: Head | None
) -> Iterable[_Drawn]:
    if head is None or answers.activation_maps is None:
        return
    if not shows_places(answers.activation_maps.shape[2:]):
        return
    tiles = []
    best = answers.probabilities.argmax(axis=1)
    for label in np.unique(best)[:_MAX_PICTURES]:
        rows = np.flatnonzero(best == label)
        row = int(rows[answers.probabilities[rows, label].argmax()])
        heat = class_activation_map(answers.activation_maps[row], head.weights[label])
        picture = _rgb(golden[row], source)
        size = (picture.width, picture.height)
        smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
        tiles += [np.asarray(picture), np.asarray(overlay(picture, smooth))]
    named = ", ".join(source.labels[label] for label in np.unique(best)[:_MAX_PICTURES])
    yield (
        "class-maps",
        f"For each class a golden picture, and where its evidence lies: {named}.",
        tiles,
    )


def _doubts(source: TrainedNetwork, evaluation: Evaluation | None) -> Iterable[_Drawn]:
    """Pictures that it gets wrong and is sure of, and those that it is least sure of."""
    if evaluation is None or evaluation.task != "multiclass":
        return
    probabilities, truth = evaluation.probabilities, evaluation.truth.argmax(axis=1)
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(best != truth)
    most_wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_COLUMNS]
    least_sure = np.argsort(confidence, kind="stable")[:_COLUMNS]
    for name, title, indices in (
        ("most-wrong", "Most wrong", most_wrong),
        ("least-sure", "Least sure", least_sure),
    ):
        if not len(indices):
            continue
        said = ", ".join(
            f"{source.labels[best[i]]} {confidence[i]:.0%} (is {source.labels[truth[i]]})"
            for i in indices
        )
        tiles = [
            np.asarray(
                _rgb(prepare_image(source.examples.picture(int(i)), source.preprocessing), source)
            )
            for i in indices
        ]
        yield name, f"{title}: {said}.", tiles


def _rgb(image: ImageArray, source: TrainedNetwork) -> Image.Image:
    return picture_of(image, source.preprocessing.channel_order).convert("RGB")


def _scaled(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low if high > low else 1.0)
    scaled: NDArray[np.uint8] = (share * 255).astype(np.uint8)
    return scaled


def _mosaic(tiles: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """Tiles of one size in rows, in the order given."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step = _TILE + _GAP
    sheet = Image.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for place, tile in enumerate(tiles):
        picture = Image.fromarray(tile).convert("RGB")
        small = picture.resize((_TILE, _TILE), Image.Resampling.NEAREST)
        sheet.paste(small, (place % columns * step, place // columns * step))
    return sheet
