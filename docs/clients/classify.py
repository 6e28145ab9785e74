"""Classify pictures over gRPC: python classify.py MODEL PICTURE... [--server HOST:PORT]."""

import argparse
import asyncio

import convd


def one_after_the_other(server: str, model: str, pictures: list[str]) -> None:
    """Ask with threads: one call, and then a stream for many pictures."""
    with convd.Client(server, timeout_seconds=10) as client:
        answer = client.classify(pictures[0], model=model, top_k=3)
        print(f"{pictures[0]}: {answer.label} ({answer.probability:.1%})")
        for picture, result in zip(pictures, client.classify_stream(pictures, model), strict=True):
            # On a stream, a picture that cannot be used has its error, and the others go on.
            print(f"{picture}: {getattr(result, 'label', result)}")


async def all_at_once(server: str, model: str, pictures: list[str]) -> None:
    """Ask with asyncio: the server combines the calls into batches."""
    async with convd.AsyncClient(server) as client:
        answers = await asyncio.gather(*(client.classify(each, model) for each in pictures))
        print(", ".join(answer.label for answer in answers))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model")
    options.add_argument("pictures", nargs="+")
    options.add_argument("--server", default="127.0.0.1:8001")
    given = options.parse_args()
    one_after_the_other(given.server, given.model, given.pictures)
    asyncio.run(all_at_once(given.server, given.model, given.pictures))
