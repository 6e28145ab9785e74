"""Publishes an artifact where no file may grow; takes a repository, a model and the artifact.

A process of its own, since the limit is one of processes; it imports little.
"""

import resource
import shutil
import sys
from pathlib import Path

from convd.artifact.repository import ModelRepository

_MAX_FILE_BYTES = 300


def main() -> None:
    """Copy an artifact and publish it; the copy must fail."""
    repository, name, artifact = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    models = ModelRepository(Path(repository))
    with models.staging(name) as staging:
        shutil.copytree(artifact, staging, dirs_exist_ok=True)
        models.publish(name, staging)


if __name__ == "__main__":
    main()
