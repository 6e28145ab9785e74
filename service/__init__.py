"""From artifacts to gRPC answers and metrics."""
