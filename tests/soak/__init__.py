"""`make soak`: half an hour of load while everything is tried that might end or fool a server."""
