"""The life of a servable: aspired, loading, available, draining, unloaded."""
