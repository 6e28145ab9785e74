"""Where a network runs: ONNX Runtime's execution providers, and sessions on them.

Export proves an artifact with the same sessions that serve it.
"""
