"""The repository of the soak: what every version must answer, and how versions come and go."""

import contextlib
import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import prepare_image
from convd.artifact.repository import ModelRepository
from tests.artifact.formats.pictures import drawn, encoded
from tests.tiny_artifact import RECIPE, publish_tiny

STEADY = "steady"
"""The model of valid requests; which of its versions are loaded changes all the time."""

VISITOR = "visitor"
"""A model whose versions are published and removed."""

HOSTILE = "hostile"
"""The model that hostile pictures are for."""

FICKLE = "fickle"
"""The model of callers that do not wait for their answers."""

STEADY_VERSIONS = 3
_KEPT_VISITORS = 3

PICTURES = (
    encoded(drawn(640, 427), "JPEG"),
    encoded(drawn(30, 20), "PNG"),
    encoded(drawn(64, 64, "RGBA"), "WEBP", lossless=True),
)
PREPARED = [prepare_image(decode_image(picture), RECIPE) for picture in PICTURES]


class Models:
    """A repository, changed as operators and disks change one.

    Args:
        folder: Where it is, and what it is made from.
    """

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self._away = folder / "taken-away"
        self._origin = folder / "origin"
        self._answers: list[NDArray[np.float32]] = []
        for seed in range(STEADY_VERSIONS):
            version = publish_tiny(self._origin, STEADY, seed=seed)
            session = ort.InferenceSession(self._origin / STEADY / str(version) / MODEL_FILE)
            (probabilities,) = session.run(["probabilities"], {"image": np.stack(PREPARED)})
            self._answers.append(probabilities)
        shutil.copytree(self._origin / STEADY, self.repository / STEADY)
        for name in (VISITOR, HOSTILE, FICKLE):
            shutil.copytree(self._origin / STEADY / "1", self.repository / name / "1")
        self._published = itertools.count(2)
        self._turns = itertools.cycle(({1, 2}, {3}, {1}, {2, 3}))

    def answer(self, version: int) -> NDArray[np.float32]:
        """What a version of STEADY or VISITOR must answer, `[pictures, labels]`."""
        return self._answers[(version - 1) % STEADY_VERSIONS]

    def turn(self) -> None:
        """Have other versions of STEADY loaded."""
        wanted = sorted(next(self._turns))
        written = self.repository / STEADY / ".config.yaml"
        with contextlib.suppress(FileNotFoundError):  # while the repository is taken away
            written.write_text(f"version_policy: {{specific: {wanted}}}\n")
            written.rename(written.with_name("config.yaml"))

    def visit(self) -> None:
        """Publish a version of VISITOR, and remove its oldest."""
        version = next(self._published)
        source = self._origin / STEADY / str((version - 1) % STEADY_VERSIONS + 1)
        models = ModelRepository(self.repository)
        with models.staging(VISITOR) as staging:
            shutil.copytree(source, staging, dirs_exist_ok=True)
            assert models.publish(VISITOR, staging) == version
        for old in models.versions(VISITOR)[:-_KEPT_VISITORS]:
            shutil.rmtree(models.version_path(VISITOR, old))

    def fail_to_publish(self) -> None:
        """Publish while the disk is full: it fails, and leaves nothing behind."""
        model = self.repository / FICKLE
        before = sorted(model.iterdir())
        artifact = self._origin / STEADY / "1"
        words = [sys.executable, "-m", "tests.soak.full_disk", self.repository, FICKLE, artifact]
        completed = subprocess.run([*map(str, words)], capture_output=True, text=True)
        assert completed.returncode == 1, completed.stderr
        assert "File too large" in completed.stderr, completed.stderr
        assert sorted(model.iterdir()) == before

    def take_away(self, seconds: float) -> None:
        """Take the repository away, and give it back."""
        self.repository.rename(self._away)
        time.sleep(seconds)
        self._away.rename(self.repository)
