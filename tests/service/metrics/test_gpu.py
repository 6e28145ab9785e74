"""GPUs on a machine that need not have one: NVML's own names, and answers that stand in."""

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry

from convd.service.metrics.gpu import GpuCollector, register_gpu_metrics


class StandIn:
    """NVML as far as it can be had without a driver: its names and errors are real."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        assert callable(getattr(pynvml, name)), f"NVML has no {name}"

        def answer(*_: Any) -> Any:
            if name not in self._answers:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self._answers[name]

        return answer


def test_what_a_gpu_knows_is_shown_in_base_units_and_the_rest_is_left_out() -> None:
    gibibyte = 1024**3
    nvml = StandIn(
        {
            "nvmlDeviceGetHandleByIndex": object(),
            "nvmlDeviceGetName": "NVIDIA H100",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=40),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 * gibibyte, total=80 * gibibyte),
            "nvmlDeviceGetPowerUsage": 312_500,
            "nvmlDeviceGetTotalEnergyConsumption": 7_000,
        }
    )
    registry = CollectorRegistry()
    registry.register(GpuCollector(nvml, 1))
    labels = {"gpu": "0", "name": "NVIDIA H100"}

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("convd_gpu_busy_ratio") == pytest.approx(0.87)
    assert value("convd_gpu_memory_used_bytes") == 3 * gibibyte
    assert value("convd_gpu_memory_total_bytes") == 80 * gibibyte
    assert value("convd_gpu_power_watts") == pytest.approx(312.5)
    assert value("convd_gpu_energy_joules_total") == pytest.approx(7)
    assert value("convd_gpu_temperature_celsius") is None


def test_nothing_is_registered_where_there_is_no_gpu() -> None:
    registry = CollectorRegistry()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert register_gpu_metrics(registry) is False
        assert list(registry.collect()) == []
    else:
        assert register_gpu_metrics(registry) is (pynvml.nvmlDeviceGetCount() > 0)
