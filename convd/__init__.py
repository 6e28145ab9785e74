"""convd turns a trained PyTorch CNN into a monitored gRPC classification service.

The rooms of this package are folders at the root of the repository; the links next to this file
bring them under one name (docs/decisions/0014-one-name.md).
"""

__version__ = "0.1.0"
