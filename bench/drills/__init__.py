"""Drills: what an operator hopes never to see, brought about on purpose."""
