"""convd and other model servers, side by side; writes docs/performance-peers.md.

    python -m bench.peers --only lenet5 --form pixels

Each part is one run, in which the servers take turns: one is started, loaded at each concurrency
and ended, then the next, for several rounds. The page shows every part that has been run.
"""

import argparse
import importlib.metadata
import io
import re
import socket
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
from PIL import Image

from bench.h2load import check_installed
from bench.machine import machine
from bench.networks import NoisePictures, repository_of_one
from bench.peers.contestants import CONVD, PEERS, Contestant, Setting
from bench.peers.environments import HERE, environment_of
from bench.peers.load import WARM_UP_SECONDS, Load, load
from bench.peers.page import Part, Result, write_page
from bench.peers.processes import family
from bench.peers.wire import Answer, Form
from convd.artifact.bundle import Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import prepare_image

RUN = Path("runs/peers")
CONCURRENCIES = {"lenet5": (1, 16, 64), "resnet18": (1, 8, 32), "resnet50": (1, 8, 32)}
SERVER_CORE, CLIENT_CORE = 0, 1
TOLERANCE = 0.02
"""Peers decode and resize in their own way, so a JPEG's probabilities differ a little."""

_PICTURE_SIZE = (640, 427)


@dataclass(frozen=True)
class _Measurement:
    load: Load
    cpu_seconds: float
    memory_bytes: float
    ready_seconds: float


def main() -> None:
    """Measure one part, or all, and write the page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", choices=CONCURRENCIES, help="one network")
    options.add_argument("--form", choices=get_args(Form), help="one form of request")
    options.add_argument("--peers", nargs="*", help="these peers only")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3.0, help="of each load")
    chosen = options.parse_args()
    check_installed()
    peers = [one for one in PEERS if not chosen.peers or one.name in chosen.peers]
    for network in [chosen.only] if chosen.only else CONCURRENCIES:
        for form in [chosen.form] if chosen.form else get_args(Form):
            # Nobody sends a LeNet-5 a photograph.
            if (network, form) != ("lenet5", "jpeg"):
                _part(network, form, peers, chosen.rounds, chosen.seconds).write(RUN / "parts")
    write_page(RUN / "parts", _versions())


def _part(network: str, form: Form, peers: list[Contestant], rounds: int, seconds: float) -> Part:
    where = machine()
    contestants = [CONVD, *(one for one in peers if form in one.requests)]
    measured: dict[tuple[str, int], list[_Measurement]] = defaultdict(list)
    with repository_of_one(RUN / "repository", network) as repository:
        for _ in range(rounds):
            for one in contestants:
                for concurrency, found in _turn(one, repository, network, form, seconds):
                    print(f"{network} {form} {one.name} {concurrency}: {found}", flush=True)
                    measured[one.name, concurrency].append(found)
    results = [
        _result(server, concurrency, found, measured[CONVD.name, concurrency])
        for (server, concurrency), found in measured.items()
    ]
    return Part(network, form, where, rounds, tuple(results))


def _turn(
    contestant: Contestant, repository: Path, network: str, form: Form, seconds: float
) -> Iterator[tuple[int, _Measurement]]:
    is_small = network == "lenet5"
    if contestant is CONVD:
        programs = Path(".venv/bin").absolute()
    else:
        programs = environment_of(contestant.name.lower())
    folder = RUN / contestant.name.lower()
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(repository, network, 1 if is_small else 2, _free_port(), folder, programs)
    image, expected = _picture(setting, form)
    request = contestant.requests[form](setting, image)

    def is_ready() -> bool:
        answer = request.ask(setting.port)
        return answer is not None and _is_right(answer, expected)

    variables = dict(contestant.variables)
    if contestant is not CONVD:
        variables |= setting.variables()
    with family(
        contestant.command(setting),
        variables,
        folder / "server.log",
        is_ready,
        cores={SERVER_CORE} if is_small else None,
    ) as server:
        for concurrency in CONCURRENCIES[network]:
            before = server.cpu_seconds()
            found = load(
                setting.port,
                request,
                folder,
                concurrency=concurrency,
                seconds=seconds,
                cores={CLIENT_CORE} if is_small else None,
            )
            # The warm-up's requests take time too, and are not in the log.
            used_seconds = server.cpu_seconds() - before
            used_seconds *= found.seconds / (found.seconds + WARM_UP_SECONDS)
            memory = server.memory_bytes()
            yield (
                concurrency,
                _Measurement(found, used_seconds / found.requests, memory, server.ready_seconds),
            )
        if not is_ready():
            raise SystemExit(f"{contestant.name} answers wrongly after the load")


def _result(
    server: str, concurrency: int, found: list[_Measurement], convd: list[_Measurement]
) -> Result:
    median = statistics.median
    ratios = [
        own.load.requests_per_second / other.load.requests_per_second
        for own, other in zip(convd, found, strict=True)
    ]
    return Result(
        server=server,
        concurrency=concurrency,
        requests_per_second=median(one.load.requests_per_second for one in found),
        p50_seconds=median(one.load.p50_seconds for one in found),
        p99_seconds=median(one.load.p99_seconds for one in found),
        cpu_seconds=median(one.cpu_seconds for one in found),
        memory_bytes=median(one.memory_bytes for one in found),
        ready_seconds=median(one.ready_seconds for one in found),
        ratio=median(ratios),
    )


def _picture(setting: Setting, form: Form) -> tuple[np.ndarray | bytes, Answer]:
    """One picture in the form of a request, and its probabilities by convd's recipe."""
    artifact = Artifact.open(setting.network.parent)
    recipe = artifact.manifest.preprocessing
    channels = recipe.output_shape[2]
    picture = NoisePictures(1, channels, _PICTURE_SIZE[0]).picture(3)
    sent: np.ndarray | bytes = prepare_image(picture, recipe)
    prepared = sent
    if form == "jpeg":
        encoded = io.BytesIO()
        picture.resize(_PICTURE_SIZE, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=90)
        sent = encoded.getvalue()
        prepared = prepare_image(decode_image(sent), recipe)
    session = onnxruntime.InferenceSession(setting.network, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["probabilities"], {"image": np.asarray(prepared)[None]})
    return sent, expected[0]


def _is_right(answer: Answer, expected: Answer) -> bool:
    top = int(expected.argmax())
    return int(answer.argmax()) == top and abs(float(answer[top] - expected[top])) < TOLERANCE


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _versions() -> dict[str, str]:
    packages = {"PyTriton": "nvidia-pytriton", "Ray": "ray"}
    found = {CONVD.name: importlib.metadata.version("convd-serve")}
    for one in PEERS:
        pinned = (HERE / "requirements" / f"{one.name.lower()}.txt").read_text(encoding="utf-8")
        name = packages.get(one.name, one.name)
        version = re.search(rf"^{re.escape(name)}==(\S+)$", pinned, re.MULTILINE | re.IGNORECASE)
        assert version is not None, f"{one.name} is pinned"  # noqa: S101
        found[one.name] = version[1]
    return found


if __name__ == "__main__":
    main()
