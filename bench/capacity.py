"""From what an image costs to machines, network and money."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

PERFORMANCE = Path("docs/performance.md")
OPENVINO = Path("docs/performance-openvino.md")
GPU = Path("docs/drills/gpu.md")

IMAGES_PER_SECOND = (1_000, 100_000, 10_000_000)
# The load that machines are bought for: a third of them may be lost, or the day's peak may come.
UTILISATION = 0.6
# What is assumed, since prices are no property of convd: dollars per hour, on demand.
CORE_DOLLARS_PER_HOUR = 0.04
GPU_DOLLARS_PER_HOUR = 4.0
CPU_MACHINE_CORES = 32
GPU_MACHINE_CORES = 16
EDGE_MACHINE_CORES = 16


@dataclass(frozen=True)
class Engine:
    """What runs the network.

    Attributes:
        name: How it is called in the table.
        source: The page that its rate comes from.
        images_per_second: Of one unit, network and transport together.
        unit_cores: Cores of a unit; a GPU's are the cores beside it.
        machine_units: Units of one machine.
        unit_dollars_per_hour: Price of a unit.
        decodes: Whether decoding costs cores besides; a GPU has idle ones for it.
    """

    name: str
    source: str
    images_per_second: float
    unit_cores: float
    machine_units: int
    unit_dollars_per_hour: float
    decodes: bool


@dataclass(frozen=True)
class Need:
    """What a rate of images needs.

    Attributes:
        machines: Machines with servers.
        edge_machines: Machines with Envoy.
        gigabits_per_second: Into the edge, and again from it into the servers.
        dollars_per_hour: Of all machines.
        dollars_per_million: For a million images.
    """

    machines: int
    edge_machines: int
    gigabits_per_second: float
    dollars_per_hour: float
    dollars_per_million: float


def engines() -> list[Engine]:
    """What docs/performance.md and the GPU's page measured for ResNet-50."""
    rate = r"\| ResNet-50, uint8 tensors over gRPC, concurrency 16, {} \| ([\d.]+) \|"
    float32 = _figure(PERFORMANCE, rate.format(r"CPUExecutionProvider \(float32\)"))
    bfloat16 = _figure(OPENVINO, rate.format(r"OpenVINOExecutionProvider \(bfloat16\)"))
    over_grpc = _figure(GPU, r"\| resnet50-float16 \| tensor \| \d+ \| [\d.]+ \| (\d+) \|")
    session = _figure(GPU, r"\| resnet50-float16 \| \d+ \| \d+ \| \d+ \| (\d+) \|")
    cores = 2
    gpu = (GPU_MACHINE_CORES, 1, GPU_DOLLARS_PER_HOUR, False)
    core = (1, CPU_MACHINE_CORES, CORE_DOLLARS_PER_HOUR, True)
    return [
        Engine("CPU, float32", PERFORMANCE.name, float32 / cores, *core),
        Engine("OpenVINO, bfloat16", OPENVINO.name, bfloat16 / cores, *core),
        Engine("H100 over gRPC", GPU.name, over_grpc, *gpu),
        Engine("H100, its session alone", GPU.name, session, *gpu),
    ]


def need(
    engine: Engine,
    images_per_second: float,
    *,
    picture_bytes: int,
    picture_seconds: float,
    edge_seconds: float,
) -> Need:
    """What a rate needs, one picture a call.

    Args:
        engine: What runs the network.
        images_per_second: The rate.
        picture_bytes: Size of a picture.
        picture_seconds: Processor time to decode and prepare it.
        edge_seconds: Processor time of a call at Envoy.
    """
    unit_seconds = 1 / engine.images_per_second
    if engine.decodes:
        unit_seconds += picture_seconds / engine.unit_cores
    units = images_per_second * unit_seconds / UTILISATION
    machines = max(math.ceil(units / engine.machine_units), 2)
    edge_machines = max(
        math.ceil(images_per_second * edge_seconds / UTILISATION / EDGE_MACHINE_CORES), 2
    )
    dollars = machines * engine.machine_units * engine.unit_dollars_per_hour
    dollars += edge_machines * EDGE_MACHINE_CORES * CORE_DOLLARS_PER_HOUR
    return Need(
        machines,
        edge_machines,
        images_per_second * picture_bytes * 8 / 1e9,
        dollars,
        dollars / 3600 / images_per_second * 1e6,
    )


def _figure(page: Path, pattern: str) -> float:
    """The largest of the figures on a page that fit."""
    found = re.findall(pattern, page.read_text())
    if not found:
        raise SystemExit(f"{page} has no line like {pattern}: run the target that writes it")
    return max(map(float, found))
