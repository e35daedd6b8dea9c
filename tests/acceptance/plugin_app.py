"""A source of an app's own, for the nodes of test_sources.py: it reads a file, and writes down who asked for it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pydrm import ResourceManager


def set_up(drm: ResourceManager) -> None:
    @drm.source("plugin")
    class Plugin:
        def setup(self, config: Mapping[str, Any], api: Any) -> None:
            self._path = config["path"]
            self._diary = os.open(config["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def fetch_resources(self) -> list[dict[str, str]]:
            os.write(self._diary, f"{os.getpid()}\n".encode())
            with open(self._path) as file:
                listed: list[dict[str, str]] = json.load(file)["data"]
                return listed

        def tear_down(self) -> None:
            os.close(self._diary)
