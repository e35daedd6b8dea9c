"""What docs/testing-your-handlers.md shows is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "testing-your-handlers.md"


def test_the_example_for_handlers_of_ones_own_passes_as_it_stands():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)

    exec(compile(example, str(PAGE), "exec"), {})


def test_without_its_close_and_its_look_at_the_hold_the_example_is_found_out():
    """The page says so."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    careless = example.replace("connection.close()", "pass").replace("hold.guard(connection)", "pass")

    try:
        exec(compile(careless, str(PAGE), "exec"), {})
    except AssertionError:
        return
    raise AssertionError("nothing was found")
