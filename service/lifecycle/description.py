"""Describes a version to clients, over any protocol."""

from dataclasses import dataclass

from convd.artifact.manifest import Accuracy, Task
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.policy import State


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """What is known about a version while it is loaded.

    Attributes:
        provider: Name of the execution provider that runs it.
        precision: The precision in which the provider computes it.
        provider_refusals: The preferred providers that were not taken, each with the reason.
        golden_difference: Largest absolute difference of a golden probability in the self-test.
        task: Whether the labels exclude each other or are independent.
        labels: Class names in index order.
        accuracy: Accuracy on held-out data; None where it was not measured.
        input_shape: Height, width and channels of the network's input.
    """

    provider: str
    precision: str
    provider_refusals: tuple[str, ...]
    golden_difference: float
    task: Task
    labels: tuple[str, ...]
    accuracy: Accuracy | None
    input_shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VersionDescription:
    """One version of a model.

    Attributes:
        name: The model.
        version: The version.
        state: Where it is in its life.
        reason: Why it failed, or what is wrong with the model's configuration; empty otherwise.
        version_labels: The labels that point to it now, sorted.
        loaded: The rest; None unless it is loaded.
    """

    name: str
    version: int
    state: State
    reason: str
    version_labels: tuple[str, ...]
    loaded: LoadedVersion | None


def describe(status: VersionStatus, catalog: Catalog) -> VersionDescription:
    """Describe a version of the catalog."""
    labels = catalog.labels(status.name)
    servable = status.servable
    loaded = None
    if servable is not None:
        manifest = servable.manifest
        loaded = LoadedVersion(
            provider=servable.provider.name,
            precision=servable.precision,
            provider_refusals=tuple(map(str, servable.refusals)),
            golden_difference=servable.golden_difference,
            task=manifest.task,
            labels=manifest.labels,
            accuracy=manifest.accuracy,
            input_shape=servable.image_shape,
        )
    return VersionDescription(
        name=status.name,
        version=status.version,
        state=status.state,
        reason=status.reason or catalog.problem(status.name),
        version_labels=tuple(sorted(one for one in labels if labels[one] == status.version)),
        loaded=loaded,
    )
