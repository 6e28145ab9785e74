"""Where a network runs: execution providers of ONNX Runtime and sessions on them.

Export proves an artifact with the very sessions that the service answers with.
"""
