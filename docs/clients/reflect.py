"""Ask a server without its stubs, by reflection: python reflect.py PICTURE [MODEL [HOST:PORT]].

This is what grpcurl and similar tools do.
"""

import sys
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "convd.v1.ClassificationService"

picture, model, server = (*sys.argv[1:], *("digits", "127.0.0.1:8001")[len(sys.argv) - 2 :])
with grpc.insecure_channel(server) as channel:
    reflection = ProtoReflectionDescriptorDatabase(channel)
    print(*reflection.get_services(), sep="\n")
    method = DescriptorPool(reflection).FindServiceByName(SERVICE).methods_by_name["Classify"]
    request = GetMessageClass(method.input_type)()
    request.model.name, request.top_k = model, 1
    request.images.add().encoded = Path(picture).read_bytes()
    call = channel.unary_unary(
        f"/{SERVICE}/Classify",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    print(json_format.MessageToJson(call(request, timeout=10)))
