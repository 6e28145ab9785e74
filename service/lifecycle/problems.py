"""Warnings about a model that is served: unmet configuration, changes that clients may notice."""

from collections.abc import Collection, Mapping

from convd.artifact.manifest import Manifest
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.policy import SpecificVersions


def unmet_wishes(
    configuration: ModelConfiguration, on_disk: Collection[int], labels: Mapping[str, int]
) -> list[str]:
    """List what a configuration asks for and does not get.

    Args:
        configuration: The configuration.
        on_disk: Versions in the repository.
        labels: The version that each label points to now.
    """
    problems = []
    if isinstance(configuration.version_policy, SpecificVersions):
        missing = sorted(configuration.version_policy.specific.difference(on_disk))
        if missing:
            versions = ", ".join(map(str, missing))
            problems.append(f"configured, but not in the repository: version {versions}")
    for label, version in configuration.labels.items():
        if labels.get(label) != version:
            stays = f"stays at version {labels[label]}" if label in labels else "is unusable"
            problems.append(f"label {label} {stays} because version {version} is not available")
    return problems


def contract_differences(old: Manifest, new: Manifest) -> list[str]:
    """List how two versions differ in what clients may rely on."""
    differences = []
    if old.preprocessing.output_shape != new.preprocessing.output_shape:
        differences.append(f"its input is {list(new.preprocessing.output_shape)}")
    if old.labels != new.labels:
        differences.append(f"its {len(new.labels)} classes are not the same")
    return differences
