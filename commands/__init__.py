"""The sub-commands of `convd`, one module each; every module offers a `command`."""

import os

# Since gRPC 1.80, separate threads read a server's connections and hand messages over, so every
# call wakes twice as many threads as when the thread that takes the calls also reads (decision 12).
# gRPC reads the variable once, on import; a value that the user has set is kept.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
# gRPC's core writes a line for each malformed call, in a form of its own; what concerns the server
# arrives as an error or a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
