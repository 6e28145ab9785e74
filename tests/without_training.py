"""`pytest -p tests.without_training`: tests run as where no training framework is installed."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

BLOCKED = ("torch", "torchvision", "timm", "onnxscript", "sklearn", "scipy", "safetensors")


class _Blocker(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:  # noqa: ARG002
        package = fullname.partition(".")[0]
        if package in BLOCKED:
            raise ModuleNotFoundError(f"the quick tier runs without {package}", name=package)


sys.meta_path.insert(0, _Blocker())
