"""convd turns a trained PyTorch CNN into a monitored gRPC classification service.

The rooms of this package are folders at the root of the repository; the links next to this file
bring them under one name (docs/decisions/0014-one-name.md).
"""

import importlib
import os

# ONNX Runtime reads this when it is imported. Without it, it asks DNS servers for its maker's hosts
# and keeps a device id under the home folder; whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

# Imported when first asked for: `import convd` stays instant, and needs no extra. __init__.pyi has
# them for type checkers.
_HOMES = {
    "AsyncClient": ("convd.client", "client"),
    "Client": ("convd.client", "client"),
    "Connection": ("convd.client", "client"),
    "Tls": ("convd.client", "client"),
    "load": ("convd.local_model", "serve"),
    "publish": ("convd.publishing", "export"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'convd' has no attribute {name!r}")
    home, extra = _HOMES[name]
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        from convd.installation import install_command

        raise ModuleNotFoundError(
            f"convd.{name} needs the package {error.name!r}: {install_command(extra)}",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
