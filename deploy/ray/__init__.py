"""convd on Ray Serve."""
