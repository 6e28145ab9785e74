"""The model that `convd tune` is asked for: found, copied for the trials, configured at the end."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError, RepositoryError
from convd.artifact.repository import CONFIGURATION_FILE, ModelRepository
from convd.artifact.signature import SIGNATURE_FILE
from convd.artifact.staging import replacing
from convd.commands.tuning.configuration_text import UnchangeableError, lines_of, with_choice
from convd.commands.tuning.engine_choice import KEYS, EngineChoice
from convd.commands.tuning.trial_server import Subject
from convd.service.lifecycle.configuration import ModelConfiguration, parse_configuration
from convd.service.lifecycle.policy import State
from convd.service.lifecycle.served_repository import open_mirror, open_repository
from convd.service.settings_sources import load_settings


@dataclass(frozen=True)
class PublishedModel:
    """A model in its repository.

    Attributes:
        repository: Where it is read.
        name: Its name.
        version: The version that is tuned: the newest that is served.
        configuration: What its `config.yaml` says.
        text: The text of that; empty if there is none.
        is_remote: Whether the repository is a copy of one in object storage.
    """

    repository: ModelRepository
    name: str
    version: int
    configuration: ModelConfiguration
    text: str
    is_remote: bool

    @classmethod
    def find(cls, place: str, name: str) -> "PublishedModel":
        """Find a model; a repository in object storage is copied first.

        Raises:
            ArtifactError: It is not there, or cannot be read.
            ConfigurationError: Its `config.yaml` is not valid.
            SettingsError: The place cannot be one.
        """
        settings = load_settings({"repository": place})
        mirror = open_mirror(settings)
        if mirror is not None:
            mirror.sync(now=True)
        repository = open_repository(settings, mirror)
        versions = repository.versions(name)
        if not versions:
            known = ", ".join(repository.models()) or "none"
            raise RepositoryError(f"{place} has no model {name!r}; its models: {known}")
        data = repository.read_configuration(name)
        configuration = ModelConfiguration() if data is None else parse_configuration(data)
        served = configuration.version_policy.aspired(dict.fromkeys(versions, State.UNLOADED))
        if not served & set(versions):
            raise RepositoryError(
                f"{name} has none of the versions that its config.yaml asks for: it has "
                f"{', '.join(map(str, versions))}"
            )
        version = max(served & set(versions))
        text = (data or b"").decode()
        return cls(repository, name, version, configuration, text, mirror is not None)

    @property
    def file(self) -> Path:
        """Its `config.yaml`, whether it exists or not; never a link."""
        return (self.repository.root / self.name / CONFIGURATION_FILE).resolve()

    @property
    def is_signed(self) -> bool:
        """Whether a signature covers `config.yaml`."""
        folder = self.repository.version_path(self.name, self.version)
        return (folder / SIGNATURE_FILE).exists()

    @property
    def choice(self) -> EngineChoice:
        """The choice that its `config.yaml` makes."""
        return EngineChoice.of(self.configuration)

    def subject(self, folder: Path) -> Subject:
        """Copy the version into a folder, and its golden pictures into memory.

        Raises:
            ArtifactError: It is incomplete or altered.
            OSError: The copy cannot be written.
        """
        artifact = self._checked(self.version)
        kept = self.configuration.model_dump(
            exclude={"version_policy", "labels", *KEYS}, exclude_none=True
        )
        cases = artifact.golden_cases().cases
        images = [artifact.read(PurePosixPath(case.image)) for case in cases]
        return Subject(_copy(artifact, folder), images, kept)

    def alternatives(self, folder: Path) -> Mapping[str, Path]:
        """Copy the newest version in each other precision that answers the same question.

        Returns:
            The folders of the copies, by which version it is, in words.
        """
        tuned = self._checked(self.version).manifest
        found: dict[str, tuple[str, Artifact]] = {}
        for version in self.repository.versions(self.name):
            try:
                other = self._checked(version)
            except ArtifactError:
                continue
            precision = other.manifest.precision
            if precision != tuned.precision and other.manifest.labels == tuned.labels:
                found[precision] = (f"version {version} ({precision})", other)
        return {what: _copy(artifact, folder) for what, artifact in found.values()}

    def check_writable(self) -> None:
        """Refuse a folder in which `config.yaml` cannot be replaced.

        Raises:
            RepositoryError: It cannot be written to.
        """
        if not os.access(self.file.parent, os.W_OK):
            raise RepositoryError(
                f"cannot write to {self.file.parent}: give --dry-run, which prints what "
                f"{CONFIGURATION_FILE} should have"
            )

    def write(self, choice: EngineChoice) -> None:
        """Write a choice to `config.yaml`.

        Raises:
            UnchangeableError: It was changed meanwhile, or is written in a way in which it cannot
                be changed.
            OSError: It cannot be written.
        """
        text = with_choice(self.text, choice)
        if (self.repository.read_configuration(self.name) or b"") != self.text.encode():
            raise UnchangeableError(
                f"{CONFIGURATION_FILE} was changed meanwhile, and was left as it is now; these "
                f"lines would be the best:\n{lines_of(choice)}"
            )
        mode = self.file.stat().st_mode & 0o777 if self.file.exists() else 0o666
        with replacing(self.file, mode) as file:
            file.write(text.encode())

    def _checked(self, version: int) -> Artifact:
        artifact = self.repository.open_version(self.name, version)
        artifact.check_all_files()
        return artifact


def _copy(artifact: Artifact, folder: Path) -> Path:
    source = artifact.folder.path
    return Path(shutil.copytree(source, folder / source.name))
