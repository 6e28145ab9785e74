"""What builds and tests the container images."""
