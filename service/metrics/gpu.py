"""Metrics of NVIDIA GPUs from their management library (NVML), if there are any."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS = ["gpu", "name"]


def register_gpu_metrics(registry: CollectorRegistry) -> bool:
    """Collect metrics of the GPUs; False if there are none or NVML's bindings are missing."""
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
    """Queries NVML for every GPU when metrics are collected.

    Values that a GPU does not report, such as the power of a shared one, are left out.

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
                gauge("convd_gpu_busy_ratio", "Fraction of NVML's last sample with a kernel busy."),
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            (
                gauge("convd_gpu_memory_used_bytes", "GPU memory in use by all processes."),
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            ),
            (
                gauge("convd_gpu_memory_total_bytes", "Total GPU memory."),
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            ),
            (
                gauge("convd_gpu_temperature_celsius", "GPU temperature."),
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            ),
            (
                gauge("convd_gpu_power_watts", "Power draw."),
                lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            ),
            (
                CounterMetricFamily(
                    "convd_gpu_energy_joules",
                    "Energy consumed since the driver was loaded.",
                    labels=_LABELS,
                ),
                lambda gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
            ),
        ]
