"""Dynamic batching: waiting rows of many requests become one call of the engine."""
