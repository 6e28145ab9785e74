"""A worker that joins others takes no call before it can answer."""

import threading
from pathlib import Path
from typing import Any
from unittest import mock

from convd.service.application import Application
from convd.service.lifecycle.loading import ServableLoader
from convd.service.servables.servable import Servable
from convd.service.settings_sources import load_settings
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny


def test_a_worker_listens_once_its_models_are_loaded(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    may_load = threading.Event()
    load = ServableLoader.__call__

    def slow(self: ServableLoader, *version: Any) -> Servable:
        assert may_load.wait(60)
        return load(self, *version)

    settings = load_settings({"repository": tmp_path, "grpc_port": 0, "provider": "cpu"})
    with mock.patch.object(ServableLoader, "__call__", slow):
        worker = Application(settings, is_worker=True)
        worker.start()
        try:
            wait_until(lambda: "pets: version 1 is loading" in worker.unready_reason())
            assert worker.grpc_port == 0
            may_load.set()
            wait_until(lambda: not worker.unready_reason())
            assert worker.grpc_port > 0
        finally:
            may_load.set()
            worker.drain()
