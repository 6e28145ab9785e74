"""The HTTP transport: metrics, health and the browser console."""
