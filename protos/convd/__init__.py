"""Generated stubs of convd's own API."""
