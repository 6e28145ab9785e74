"""Generated stubs of the Open Inference Protocol; see grpc_service.proto beside them."""
