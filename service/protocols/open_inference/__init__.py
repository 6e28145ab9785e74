"""The Open Inference Protocol (KServe V2) with Triton's extensions: converts and delegates."""
