"""What convd on Ray is compared with: its own servers, of two processes with one core each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.drills.envoy_stage import HEALTHY, value, wait_until
from bench.drills.fleet import Fleet
from testbed.authorities import Authority
from testbed.envoy import Configuration, envoy
from testbed.server import ServerProcess, server_process

ENVOY = Path(".cache/envoy/bin/envoy")

_PROCESSES = 2


class Plain(NamedTuple):
    """The same servers without Ray.

    Attributes:
        workers: One with two workers, and no proxy before it.
        edge: Where Envoy answers for two servers, over TLS.
    """

    workers: ServerProcess
    edge: str


@contextlib.contextmanager
def plain_servers(repository: Path, models: str, folder: Path) -> Iterator[Plain]:
    """Run both until the block ends."""
    flags = ("--models", models, "--provider", "cpu", "--intra-op-threads", 1)
    authority = Authority(folder / "access")
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(
            server_process(repository, folder / "plain.log", *flags, "--workers", _PROCESSES)
        )
        fleet = stack.enter_context(Fleet(repository, folder, _PROCESSES, *flags))
        configuration = Configuration(
            folder / "envoy",
            {"stable": fleet.addresses},
            authority.issue("server", hosts=("localhost",)),
        )
        edge = stack.enter_context(envoy(ENVOY, configuration, "--concurrency", str(_PROCESSES)))
        wait_until(lambda: value(edge, HEALTHY) == _PROCESSES)
        yield Plain(workers, edge.address)
