"""KServe's own storage initializer and client around the server of deploy/kubernetes/kserve.

Part of `make kubernetes-check`: a version is published to an S3 server, KServe's initializer copies
it to where the manifest says, and the container's command serves it.
"""

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from testbed.server import CONVD_PORTS, environment, launched
from tests.deploy.manifests import Server, image_variables, resource
from tests.interop.environments import kserve_client_python, kserve_storage
from tests.object_storage import StorageServer, storage_server
from tests.support import ROOT, wait_until
from tests.tiny_artifact import publish_tiny

MOUNT = "/mnt/models"
DOWNLOAD = (
    "import sys, kserve_storage as k; k.Storage.download_files(sys.argv[1::2], sys.argv[2::2])"
)
SERVICE = resource("kserve", "InferenceService", "digits")
(OWN_MODEL,) = SERVICE["spec"]["predictor"]["storageUris"]
MODEL = Path(OWN_MODEL["mountPath"]).name

LAYOUTS = {
    "one model, as the manifest has it": OWN_MODEL,
    "a whole repository": {"uri": "s3://models/served", "mountPath": MOUNT},
    "one version": {"uri": OWN_MODEL["uri"] + "1/", "mountPath": f"{MOUNT}/{MODEL}/1"},
}


def main() -> None:
    """Serve each layout; a non-zero exit says that one failed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        storage_server(patch) as storage,
    ):
        _publish(storage, Path(folder) / "repository")
        for number, (title, layout) in enumerate(LAYOUTS.items()):
            root = Path(folder) / str(number)
            target = f"{root}{layout['mountPath']}"
            _python(sys.executable, "-c", DOWNLOAD, layout["uri"], target, path=kserve_storage())
            _serve(root)
            print(f"ok  KServe's initializer, the server and KServe's client: {title}", flush=True)


def _publish(storage: StorageServer, repository: Path) -> None:
    """Publish two models, of which one has a name that begins like the other's."""
    for name in (MODEL, f"{MODEL}2"):
        publish_tiny(repository, name)
        storage.publish(repository / name / "1", name)


def _serve(root: Path) -> None:
    """Run the container's command with its variables, in a folder that stands for its root."""
    runtime = Server("kserve")
    words = [word.replace(MOUNT, f"{root}{MOUNT}") for word in runtime.container()["args"]]
    ports = {"CONVD_GRPC_PORT": "0", "CONVD_HTTP_PORT": "0"}
    variables = environment() | image_variables() | runtime.environment() | ports
    with launched(["-m", "convd", *words], root / "log", CONVD_PORTS, env=variables) as server:
        wait_until(lambda: server.get("/readyz")[0] == 200)
        addresses = (server.address, f"127.0.0.1:{server.http_port}")
        _python(str(kserve_client_python()), "-m", "tests.interop.kserve_client", *addresses, MODEL)


def _python(*words: str, path: Path | None = None) -> None:
    variables = environment() | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        words, check=False, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
