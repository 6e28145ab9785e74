"""Publishes a trained network as the next version of a model, or says what that would do."""

from dataclasses import dataclass
from pathlib import Path

from convd.artifact.bundle import Artifact
from convd.artifact.manifest import Manifest
from convd.artifact.object_storage import ObjectStorage, is_storage_url
from convd.artifact.remote_repository import RemoteRepository
from convd.artifact.repository import ModelRepository, check_model_name
from convd.artifact.signed_repository import configuration_to_publish
from convd.export.building import build_artifact
from convd.export.examination import examine
from convd.export.options import ExportOptions
from convd.export.progress import ExportProgress, SilentProgress
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.report.model_card import describe_preprocessing
from convd.export.source import TrainedNetwork
from convd.runtime.providers import installed_providers


@dataclass(frozen=True)
class Published:
    """A version that was published.

    Attributes:
        place: Its folder, or its URL in object storage.
        version: Its number.
        manifest: What it promises.
    """

    place: str
    version: int
    manifest: Manifest

    @property
    def path(self) -> Path:
        """Its folder, where it was published to a folder."""
        return Path(self.place)


def open_destination(place: str) -> ModelRepository | RemoteRepository:
    """The repository to publish to: a folder, or a place in object storage.

    Raises:
        StorageError: A package is missing, or the storage's settings cannot be used.
    """
    if is_storage_url(place):
        return RemoteRepository(ObjectStorage(place))
    return ModelRepository(Path(place))


def publish(
    source: TrainedNetwork,
    repository: ModelRepository | RemoteRepository,
    name: str,
    options: ExportOptions | None = None,
    progress: ExportProgress | None = None,
) -> Published:
    """Publish a network as the next version of a model; nothing is published that is not verified.

    Args:
        source: The network.
        repository: Where to publish.
        name: The model's name.
        options: How it is published; None leaves everything as it is.
        progress: Told of each stage.

    Raises:
        ExportError: The network cannot be converted, or gives other answers once it is.
        RepositoryError: The name or the repository cannot be used.
        InvalidArtifactError: It is to be signed, and `config.yaml` has changed since that was.
    """
    options = options or ExportOptions()
    signer = options.signer
    if signer is not None:
        configuration_to_publish(repository, name, signer.key.public_key())
    with repository.staging(name) as staging:
        manifest = build_artifact(source, staging, name, options, progress or SilentProgress())

        def sign(version: int) -> None:
            if signer is not None:
                files = Artifact.open(staging).files()
                configuration = configuration_to_publish(repository, name, signer.key.public_key())
                signer.sign(staging, name, version, files, configuration)

        version = repository.publish(name, staging, sign)
        return Published(str(repository.version_path(name, version)), version, manifest)


def plan(
    source: TrainedNetwork,
    repository: ModelRepository | RemoteRepository,
    name: str,
    options: ExportOptions,
    progress: ExportProgress | None = None,
) -> dict[str, str]:
    """Say what `publish` would do, and check what can be checked without writing anything.

    Returns:
        What it would do, by subject, for people to read.

    Raises:
        ExportError: The network or the options would be refused.
        RepositoryError: The name or the repository cannot be used.
    """
    check_model_name(name)
    options.check(source)
    found = examine(source, progress or SilentProgress())
    options.check_task(source, found.reading.task)
    version = max(repository.versions(name), default=0) + 1
    height, width, channels = source.preprocessing.output_shape
    labelled = not isinstance(source.examples, SamplePictures)
    calibration = options.calibration_data
    return {
        "network": f"{source.provenance.source}, {source.provenance.parameters or 0:,} parameters",
        "classes": f"{len(source.labels)}: {', '.join(source.labels[:5])}"
        + (", ..." if len(source.labels) > 5 else ""),
        "outputs": f"{found.reading} ({found.reading.seen})",
        "input": f"uint8 [batch, {height}, {width}, {channels}]",
        "preprocessing": describe_preprocessing(source.preprocessing),
        "precision": options.precision,
        "temperature": f"fitted on {calibration.name}" if calibration else "1",
        "accuracy": (
            f"measured on {len(source.examples)} pictures ({source.examples.name})"
            if labelled
            else "not measured; give --data SPEC"
        ),
        "verified on": ", ".join(str(provider) for provider in installed_providers()),
        "signed": "yes" if options.signer else "no",
        "published as": str(repository.version_path(name, version)),
    }
