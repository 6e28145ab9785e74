"""What tests and benches share: server processes, callers that check answers, altered artifacts.

Like `tests` and `bench`, this package runs from a clone and is never installed.
"""
