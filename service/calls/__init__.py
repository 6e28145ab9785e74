"""One call of a client: its deadline and identity, its record and traces, its final status."""
