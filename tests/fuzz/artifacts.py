"""Fuzz targets: what publishers write into a repository, manifest.json and config.yaml."""

import functools
import random

from convd.artifact.bundle import MANIFEST_CHECKSUM_FILE, MANIFEST_FILE, sha256
from convd.artifact.errors import ArtifactError
from convd.artifact.repository import CONFIGURATION_FILE, ModelRepository
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.lifecycle.configuration import ConfigurationFile
from convd.service.protocols.classification import ClassificationServicer
from tests.fuzz.bounds import memory_within
from tests.fuzz.mutation import mutate_json
from tests.fuzz.served import MODEL, answered_or_refused, inference_on, load, tiny_repository
from tests.fuzz.target import MutateBytes, Target
from tests.service.protocols.open_inference.requests import png

MAX_LOADING_BYTES = 256 * 1024 * 1024
"""What a tiny network and its golden pictures may take while they load."""

MAX_CONFIGURATION_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_LENGTH = 10_000


def read_manifest(data: bytes) -> None:
    """Load a version with this manifest; what loads must answer."""
    folder = tiny_repository() / MODEL / "1"
    (folder / MANIFEST_FILE).write_bytes(data)
    (folder / MANIFEST_CHECKSUM_FILE).write_text(f"{sha256(data)}  {MANIFEST_FILE}\n")
    with memory_within(MAX_LOADING_BYTES):
        try:
            servable = load()
        except ArtifactError as error:
            assert 0 < len(str(error)) <= MAX_REFUSAL_LENGTH
            str(error).encode()
            return
    try:
        servable.describe().encode()
        servicer = ClassificationServicer(inference_on(servable))
        images = [pb.Image(encoded=png())]
        asked = pb.ClassifyRequest(model=pb.ModelSpec(name=MODEL), images=images)
        described = pb.GetModelRequest(model=pb.ModelSpec(name=MODEL))
        answered_or_refused(lambda: servicer.Classify(asked, None))  # type: ignore[arg-type]
        answered_or_refused(lambda: servicer.GetModel(described, None))  # type: ignore[arg-type]
    finally:
        servable.close()


def read_configuration(data: bytes) -> None:
    """Look at a model's configuration; a file that is not valid is a problem that is told."""
    repository = ModelRepository(tiny_repository())
    path = repository.root / MODEL / CONFIGURATION_FILE
    path.write_bytes(data)
    with memory_within(MAX_CONFIGURATION_BYTES):
        file = ConfigurationFile(path, lambda: repository.read_configuration(MODEL))
        file.refresh()
    assert bool(file.problem) == (file.configuration is None)
    assert len(file.problem) <= MAX_REFUSAL_LENGTH
    file.problem.encode()
    if file.configuration is not None:
        file.configuration.engine_settings()


def _mutate_text(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
    """Change bytes, or put a word of YAML or of a configuration at some place."""
    if chance.random() < 0.5:
        return mutate_bytes(data)
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((0, 0, 1, 4, 16)))
    return data[:start] + chance.choice(_WORDS) + data[end:]


_WORDS = (
    *(b"version_policy: ", b"latest: ", b"specific: ", b"labels: ", b"max_batch_size: "),
    *(b"max_queue_size: ", b"max_queue_delay_seconds: ", b"max_concurrent_executions: "),
    *(b"provider: ", b"all", b"cpu", b"1e999", b".inf", b".nan", b"-1", b"0x1F", b"1_000", b"1:30"),
    *(b"{", b"}", b"[", b"]", b"\n", b"\n  ", b": ", b"- ", b"? ", b"| ", b"> ", b"&a ", b"*a"),
    *(b"!!python/object:a ", b"!!binary ", b"!!set ", b"%YAML 1.1\n---\n", b"<<: ", b"'", b'"'),
    *(b"\xef\xbb\xbf", b"\0", b"2026-01-01", b"~", b"!!timestamp ", b"9" * 400, b"=", b"#", b"..."),
)


@functools.cache
def _manifest() -> bytes:
    return (tiny_repository() / MODEL / "1" / MANIFEST_FILE).read_bytes()


_CONFIGURATIONS = {
    "empty": b"",
    "all": b"version_policy: all\nprovider: cpu\n",
    "latest": b"version_policy: {latest: 2}\nlabels: {stable: 1, canary: 2}\n",
    "specific": b"version_policy:\n  specific: [3, 4]\nmax_batch_size: 8\nmax_queue_size: 64\n",
    "delays": b"max_queue_delay_seconds: 0.01\nmax_concurrent_executions: 2\n",
    "alias": b"max_batch_size: &a 8\nmax_queue_size: *a\n",
    "tag": b"provider: !!str cpu\n",
    "block": b"# server\nprovider: >-\n  cpu\n? max_batch_size\n: 0o7\n",
    "twice": b"provider: cpu\nprovider: auto\n",
}

MANIFEST = Target(read_manifest, mutate_json, {"tiny": _manifest()}, max_input_bytes=16 * 1024)
CONFIGURATION = Target(read_configuration, _mutate_text, _CONFIGURATIONS, max_input_bytes=8192)
