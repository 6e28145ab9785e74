"""The gRPC transport: protocols in, domain calls out."""
