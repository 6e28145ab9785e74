"""One call of a client: what is known about it, how it is recorded, and how it ends."""
