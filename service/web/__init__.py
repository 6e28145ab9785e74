"""The HTTP side: metrics, health, and a console for people."""
