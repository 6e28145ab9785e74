"""The served graph: the user's network as ONNX, what its outputs are, and what is put around it."""
