"""Coverage-guided fuzzing of all that reads bytes of others: pictures, messages, artifacts, YAML.

`make fuzz` mutates for an hour, `make fuzz-quick` for a minute; `make test` replays the corpus.
"""
