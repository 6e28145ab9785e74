"""convd turns a trained PyTorch CNN into a monitored gRPC classification service.

The rooms of this package are folders at the root of the repository; the links next to this file
bring them under one name (docs/decisions/0014-one-name.md).
"""

import os

# ONNX Runtime reads this when it is imported. Without it, it asks DNS servers for its maker's hosts
# and keeps a device id under the home folder; whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
