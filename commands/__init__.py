"""The sub-commands of `convd`, one module each; every module offers a `command`."""

import os

# Since gRPC 1.80, threads of its own read a server's connections and hand over what has come: every
# call wakes twice as many threads as when the thread that takes the calls reads them (decision 12).
# gRPC asks for this once, when it is imported; whoever has set the variable keeps it.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
