"""What people should know about a model though it is served: wishes that are not met, changes."""

from collections.abc import Collection, Mapping

from convd.artifact.manifest import Manifest
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.policy import SpecificVersions


def unmet_wishes(
    configuration: ModelConfiguration, on_disk: Collection[int], labels: Mapping[str, int]
) -> list[str]:
    """What a configuration asks for and does not get.

    Args:
        configuration: The configuration.
        on_disk: Versions that the repository holds.
        labels: What each label points to now.
    """
    problems = []
    if isinstance(configuration.version_policy, SpecificVersions):
        missing = sorted(configuration.version_policy.specific.difference(on_disk))
        if missing:
            versions = ", ".join(map(str, missing))
            problems.append(f"not in the repository, though configured: version {versions}")
    for label, version in configuration.labels.items():
        if labels.get(label) != version:
            stays = f"stays at version {labels[label]}" if label in labels else "is unusable"
            problems.append(f"label {label} {stays}, since version {version} is not available")
    return problems


def contract_differences(old: Manifest, new: Manifest) -> list[str]:
    """How a version differs from another in what clients may count on."""
    differences = []
    if old.preprocessing.output_shape != new.preprocessing.output_shape:
        differences.append(f"its input is {list(new.preprocessing.output_shape)}")
    if old.labels != new.labels:
        differences.append(f"it has {len(new.labels)} classes, not all of them the same")
    return differences
