"""GPUs, as NVIDIA's management library (NVML) sees them, where there are any."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS = ["gpu", "name"]


def register_gpu_metrics(registry: CollectorRegistry) -> bool:
    """Collect metrics of the GPUs; False where there are none or NVML's bindings are missing."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return False
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return False
    if count == 0:
        return False
    registry.register(GpuCollector(pynvml, count))
    return True


class GpuCollector(Collector):
    """Asks NVML about every GPU whenever metrics are collected.

    What a GPU does not know, as the power of one that is shared, is left out.

    Args:
        nvml: The bindings of NVML, initialised.
        count: Number of GPUs.
    """

    def __init__(self, nvml: Any, count: int) -> None:  # noqa: ANN401
        self._nvml = nvml
        self._count = count

    def describe(self) -> Iterable[Metric]:
        """The families without their samples."""
        return [family for family, _ in self._families()]

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        families = self._families()
        for index in range(self._count):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            name = self._nvml.nvmlDeviceGetName(handle)
            for family, read in families:
                try:
                    family.add_metric([str(index), name], read(handle))
                except self._nvml.NVMLError:
                    continue
        return [family for family, _ in families]

    def _families(
        self,
    ) -> list[tuple[GaugeMetricFamily | CounterMetricFamily, Callable[[Any], float]]]:
        nvml = self._nvml

        def gauge(name: str, documentation: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, documentation, labels=_LABELS)

        return [
            (
                gauge("convd_gpu_busy_ratio", "Share of the last moment in which a kernel ran."),
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            (
                gauge("convd_gpu_memory_used_bytes", "Memory in use, by anyone."),
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            ),
            (
                gauge("convd_gpu_memory_total_bytes", "Memory that the GPU has."),
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            ),
            (
                gauge("convd_gpu_temperature_celsius", "Temperature of the chip."),
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            ),
            (
                gauge("convd_gpu_power_watts", "Power drawn."),
                lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            ),
            (
                CounterMetricFamily(
                    "convd_gpu_energy_joules",
                    "Energy drawn since the driver was loaded.",
                    labels=_LABELS,
                ),
                lambda gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
            ),
        ]
