from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.counterparts import mosquitto, postgres

ROOT = Path(__file__).parent.parent


def printed(example: str, *arguments: str) -> list[str]:
    """The lines that the example printed before it ended well."""
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / example, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_ticker_gets_prices_in_order_and_leaves_by_itself() -> None:
    *prices, last = printed("ticker.py", "--prices", "3")

    token = prices[0].split()[-1]
    assert prices == [f"btc {price} under token {token}" for price in (100, 101, 102)]
    assert last == "handed over and left"


def test_a_kind_of_ones_own_holds_its_resource() -> None:
    *lines, last = printed("lines.py")

    token = lines[0].split()[-1]
    assert lines == [f"line {number} of greeting for token {token}" for number in (1, 2, 3)]
    assert last == "handed over and left"


def client_library(module: str, package: str) -> Any:
    """The module; skips the test without it, unless PYDRM_SERVERS is "required"."""
    if os.environ.get("PYDRM_SERVERS") == "required":
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"pip install {package}")


def printed_while(act: Callable[[int], None], example: str, *arguments: str) -> list[str]:
    """As `printed`; once the first line is there, *act* is called again and again, with 1, 2 and so on."""
    command = [sys.executable, str(ROOT / "examples" / example), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None and run.stderr is not None
            first = run.stdout.readline().rstrip()
            number, deadline_s = 0, time.monotonic() + 60
            while run.poll() is None:
                assert time.monotonic() < deadline_s
                number += 1
                act(number)
                time.sleep(0.05)
            assert run.returncode == 0, run.stderr.read()
            return [first, *run.stdout.read().splitlines()]
        finally:
            run.kill()


def test_an_mqtt_subscription_is_held_as_a_kind_of_ones_own(tmp_path: Path) -> None:
    """Against mosquitto."""
    paho = client_library("paho.mqtt.publish", "aiomqtt")

    with mosquitto(tmp_path) as broker:

        def publish(number: int) -> None:
            paho.single("sensors/attic", str(number), qos=1, hostname="127.0.0.1", port=broker.port)

        held, *lines, last = printed_while(publish, "mqtt.py", "--port", str(broker.port), "--messages", "3")

    assert held.startswith("sensors/# is held under token ")
    assert last == "handed over and left"
    assert [line.split(" under ")[0] for line in lines] == [f"sensors/attic {number}" for number in (1, 2, 3)]


def test_a_postgresql_channel_is_held_as_a_kind_of_ones_own(tmp_path: Path) -> None:
    """Against PostgreSQL."""
    psycopg = client_library("psycopg", "psycopg[binary]")

    with postgres(tmp_path) as database:
        dsn = f"host=127.0.0.1 port={database.port} user=postgres dbname=postgres"

        with psycopg.connect(dsn, autocommit=True) as connection:

            def notify(number: int) -> None:
                connection.execute("SELECT pg_notify('orders', %s)", [str(number)])

            look, *lines, last = printed_while(notify, "postgres_listen.py", "--dsn", dsn, "--notifications", "3")

    assert look.startswith("look for what is new in orders, under token ")
    assert lines == [f"orders: {number}" for number in (1, 2, 3)]
    assert last == "handed over and left"


def test_a_nightly_job_skips_and_repeats_no_night_when_its_node_leaves() -> None:
    nights = [line.split() for line in printed("nightly.py", "--nights", "3", "--every", "2")]

    numbers = [int(words[1]) for words in nights]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert nights[1][-1] != nights[0][-1]
