"""Triton's own client, unchanged, over gRPC and HTTP, against a server at two addresses.

Runs in the environment of requirements.txt beside it, without convd's packages. The model has to
take pictures of its own size as they are. The other two addresses are those of a server on which a
lone request waits for long, so that there is something to cancel.
"""

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.interop import asyncio_checks, checks, http_checks
from tests.interop.subject import Subject

CHECKS: tuple[Callable[[Subject], Coroutine[Any, Any, None] | None], ...] = (
    checks.check_health_and_metadata,
    checks.check_infer_raw,
    checks.check_infer_jpeg,
    checks.check_infer_contents,
    checks.check_classification,
    checks.check_parameters,
    checks.check_errors,
    checks.check_compression,
    checks.check_async_callbacks,
    checks.check_stream,
    checks.check_statistics,
    checks.check_settings,
    checks.check_client_timeout,
    checks.check_cancellation,
    asyncio_checks.check_asyncio,
    asyncio_checks.check_asyncio_stream,
    asyncio_checks.check_asyncio_cancellation,
    http_checks.check_http_health_and_metadata,
    http_checks.check_http_infer,
    http_checks.check_http_infer_json,
    http_checks.check_http_classification,
    http_checks.check_http_parameters_and_compression,
    http_checks.check_http_errors,
    http_checks.check_http_side_by_side,
    http_checks.check_http_statistics_and_settings,
    http_checks.check_http_timeout,
    # Last, since they take the model away for a moment.
    checks.check_repository,
    http_checks.check_http_repository,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("http_address")
    parser.add_argument("waiting_address")
    parser.add_argument("waiting_http_address")
    parser.add_argument("model")
    subject = Subject(**vars(parser.parse_args()))
    for check in CHECKS:
        outcome = check(subject)
        if outcome is not None:
            asyncio.run(outcome)
        print(f"ok  {check.__name__.removeprefix('check_')}", flush=True)


if __name__ == "__main__":
    main()
