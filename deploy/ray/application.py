"""The Ray Serve application: `serve deploy deploy/ray/serve.yaml`, or `serve run`.

`args` of the application are settings of `convd serve`; everything else of the file is Ray's.
"""

import math
from typing import Any

import ray
from ray import serve

from deploy.ray.replica import Replica

DEPLOYMENT = "convd"

GRPC_SERVICER_FUNCTIONS = [
    "convd.protos.convd.v1.classification_pb2_grpc.add_ClassificationServiceServicer_to_server",
    "convd.protos.inference.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server",
]


class RayReplica(Replica):
    """A replica that computes on the cores that Ray has given it; takes settings by name."""

    def __init__(self, **settings: object) -> None:
        cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        super().__init__(max(1, math.floor(cores)), **settings)


def build(args: dict[str, Any]) -> serve.Application:
    """Make the application.

    Args:
        args: Settings of `convd serve`, such as `repository`, and `models: digits:2` for a version.
    """
    deployment = serve.deployment(RayReplica, name=DEPLOYMENT)
    return deployment.bind(**args)
