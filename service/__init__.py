"""From a repository of artifacts to gRPC answers and metrics.

Each folder is a floor. Imports lead downwards only, and the two transports do not know each other;
`make lint` enforces this.

workers/        several processes that look like one server
application     one process: puts the parts together, runs and drains them
rpc/ | web/     the transports: gRPC, and HTTP with the console
inference/      the use case: classify images
lifecycle/      which versions are loaded, and when
servables/      one loaded version: warm-up, instances, cached answers
calls/          one call: deadline and identity, record and traces, final status
metrics/        what is counted and timed
batching/       rows of many requests run together
the other modules of this folder are the ground, which every floor may use
"""
