"""Networks that `convd train` has trained."""

from pathlib import Path

from convd.artifact.manifest import Fact, Provenance
from convd.export.source import TrainedNetwork, count_parameters
from convd.export.sources.labelled_pictures import from_classes, load_held_out
from convd.models.checkpoint import load_checkpoint
from convd.models.data import load_dataset


def network_from_checkpoint(path: Path, *, data: str | None = None) -> TrainedNetwork:
    """Read what `convd train` wrote.

    Args:
        path: The checkpoint's folder.
        data: Specification of the data to evaluate on; None takes what it was trained on, and of
            that the part that was held out.

    Raises:
        ModelsError: The checkpoint or the data cannot be read.
        SourceError: The data have classes that the network does not know.
    """
    network, description = load_checkpoint(path)
    if data is None:
        splits = load_dataset(
            description.data, seed=description.split_seed, classes=description.classes
        )
        held_out = from_classes(splits.held_out, description.labels, splits.held_out_name)
    else:
        held_out = load_held_out(data, description.labels)
    return TrainedNetwork(
        network=network,
        labels=description.labels,
        preprocessing=description.preprocessing,
        normalization=description.normalization,
        provenance=Provenance(
            source=f"checkpoint {path.name}",
            architecture=description.architecture,
            parameters=count_parameters(network),
            training={"data": description.data, **description.training},
        ),
        examples=held_out,
        activation="softmax",
        weights=(path, None),
        recorded_accuracy=description.accuracy,
        facts=(
            Fact(
                subject="labels, preprocessing, normalisation",
                value="as in training",
                origin="the checkpoint",
            ),
        ),
    )
