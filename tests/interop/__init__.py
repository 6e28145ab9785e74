"""convd against the clients of another server; `make interop` and `make perf-analyzer` run it."""
