"""Fuzzes one target in this process: `python -m tests.fuzz.run_target NAME [libFuzzer's options]`.

What is imported within the block is instrumented: convd, and the parsers in Python that it uses.
"""

import logging
import random
import sys

import atheris

with atheris.instrument_imports(include=["convd", "PIL", "yaml"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough, or an input breaks something."""
    logging.disable()
    name = sys.argv.pop(1)
    target = TARGETS[name]
    # To merge a corpus, libFuzzer starts itself again, through a shell.
    sys.argv[0] = f"{sys.executable} -m tests.fuzz.run_target {name}"

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def mutate_bytes(part: bytes) -> bytes:
            mutated: bytes = atheris.Mutate(part, max(1, min(max_size, 2 * len(part) + 16)))
            return mutated

        return target.mutate(data, random.Random(seed), mutate_bytes)[:max_size]

    atheris.Setup(sys.argv, target.read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
