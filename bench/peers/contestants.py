"""Each server: how it is started, and what it is asked. The requests are the same picture."""

import json
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peers import wire
from bench.peers.wire import Form, Request

SERVERS = (Path(__file__).parent / "servers").absolute()
MAX_BATCH_SIZE = 32

Image = NDArray[np.uint8] | bytes


@dataclass(frozen=True)
class Setting:
    """What a server gets.

    Attributes:
        repository: Model repository with one model.
        model: Its name.
        threads: Threads of an inference.
        port: Where to listen; the next two are free as well.
        folder: Where it may write.
        programs: Folder of the programs of its environment.
    """

    repository: Path
    model: str
    threads: int
    port: int
    folder: Path
    programs: Path

    @property
    def network(self) -> Path:
        """The ONNX file."""
        return (self.repository / self.model / "1" / "model.onnx").absolute()

    def variables(self) -> dict[str, str]:
        """What the servers of `bench/peers/servers` read."""
        return {
            "PEER_MODEL": str(self.network),
            "PEER_THREADS": str(self.threads),
            "PEER_PORT": str(self.port),
            "PYTHONPATH": str(SERVERS),
        }


Command = Callable[[Setting], Sequence[object]]


@dataclass(frozen=True)
class Contestant:
    """A server.

    Attributes:
        name: As its makers call it; in lower case its environment.
        protocol: What its clients speak, in words.
        command: Starts it.
        requests: One request, by what it holds.
        variables: More of its environment.
    """

    name: str
    protocol: str
    command: Command
    requests: Mapping[Form, Callable[[Setting, Image], Request]]
    variables: Mapping[str, str] = field(default_factory=dict)


def _python(file: str) -> Command:
    return lambda setting: [setting.programs / "python", SERVERS / file]


def _convd(setting: Setting) -> Sequence[object]:
    words: dict[str, object] = {
        "--repository": setting.repository.absolute(),
        "--grpc-port": setting.port,
        "--http-port": setting.port + 1,
        "--provider": "cpu",
    }
    pairs = [word for pair in words.items() for word in pair]
    return [setting.programs / "convd", "serve", *pairs]


def _mosec(setting: Setting) -> Sequence[object]:
    address = ["--address", "127.0.0.1", "--port", setting.port]
    return [setting.programs / "python", SERVERS / "mosec_server.py", *address]


def _bentoml(setting: Setting) -> Sequence[object]:
    words = ["serve", "bentoml_server:Classifier", "--working-dir", SERVERS]
    return [setting.programs / "bentoml", *words, "--host", "127.0.0.1", "--port", setting.port]


def _mlserver(setting: Setting) -> Sequence[object]:
    settings = {
        "host": "127.0.0.1",
        "http_port": setting.port + 1,
        "grpc_port": setting.port,
        "metrics_port": setting.port + 2,
        "parallel_workers": 1,
    }
    model = {
        "name": "pixels",
        "implementation": "mlserver_model.Classifier",
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": 0.001,
    }
    folder = setting.folder / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [setting.programs / "mlserver", "start", folder.absolute()]


def _bodies(path: str) -> Mapping[Form, Callable[[Setting, Image], Request]]:
    return {
        "pixels": lambda _, image: wire.body(path, image),
        "jpeg": lambda _, image: wire.body(path, image),
    }


CONVD = Contestant(
    "convd",
    "gRPC",
    _convd,
    {
        "pixels": lambda setting, image: wire.infer(setting.model, image),
        "jpeg": lambda setting, image: wire.classify(setting.model, bytes(image)),
    },
)
PEERS = (
    Contestant(
        "PyTriton",
        "gRPC",
        _python("pytriton_server.py"),
        {
            "pixels": lambda _, image: wire.infer("pixels", image),
            "jpeg": lambda _, image: wire.infer("jpeg", image),
        },
        # As PyTriton's guide asks of interpreters outside the system's folders.
        {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))},
    ),
    Contestant(
        "MLServer", "gRPC", _mlserver, {"pixels": lambda _, image: wire.infer("pixels", image)}
    ),
    Contestant("mosec", "HTTP, bytes", _mosec, _bodies("/inference")),
    Contestant(
        "LitServe",
        "HTTP, base64",
        _python("litserve_server.py"),
        {
            "pixels": lambda _, image: wire.base64_json("/predict", image),
            "jpeg": lambda _, image: wire.base64_json("/predict", image),
        },
    ),
    Contestant(
        "BentoML",
        "HTTP, JSON or form",
        _bentoml,
        {
            "pixels": lambda _, image: wire.bentoml(image),
            "jpeg": lambda _, image: wire.bentoml(image),
        },
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Contestant(
        "Ray",
        "HTTP, bytes",
        _python("ray_server.py"),
        _bodies("/"),
        {"RAY_USAGE_STATS_ENABLED": "0"},
    ),
)
