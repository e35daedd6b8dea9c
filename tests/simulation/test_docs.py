"""What docs/testing-your-handlers.md shows is run as it stands, and what it says of it is tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing-your-handlers.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def run(example: str) -> None:
    exec(compile(example, str(PAGE), "exec"), {})


@pytest.mark.parametrize("example", EXAMPLES, ids=["answers at once", "answers late", "a source"])
def test_the_examples_for_handlers_of_ones_own_pass_as_they_stand(example: str):
    run(example)


def test_without_its_close_and_its_look_at_the_hold_the_example_is_found_out():
    """The page says so."""
    careless = EXAMPLES[0].replace("connection.close()", "pass").replace("hold.guard(connection)", "pass")

    with pytest.raises(AssertionError):
        run(careless)


def test_what_is_connected_before_it_is_guarded_and_in_a_try_is_found_held_twice():
    """The page says so, too."""
    connect, guard, attempt = "await connection.connect()", "hold.guard(connection)", "try:"
    careful = f"        {guard}\n        {attempt}\n            {connect}\n"
    careless = f"        {connect}\n        {guard}\n        {attempt}\n"
    assert EXAMPLES[1].count(careful) == 1

    with pytest.raises(AssertionError, match=r"r1 is held by . under . and . under ."):
        run(in_words(EXAMPLES[1].replace(careful, careless)))


@pytest.mark.parametrize("line", ["hold.guard(connection)", "connection.close()"])
def test_one_of_the_two_is_enough_for_that(line: str):
    run(EXAMPLES[1].replace(line, "pass"))


def test_a_source_that_gives_an_empty_list_for_whatever_goes_wrong_is_found_out():
    """The page says so."""
    ashamed = EXAMPLES[2].replace('raise ConnectionError("the database is away")', "return []")

    with pytest.raises(AssertionError, match="what came from it is removed"):
        run(ashamed)


def in_words(example: str) -> str:
    """Only `verify` is asked, and what it says is in the error."""
    example = re.sub(r"    assert \[connection.*\n", "", example)
    return example.replace("assert cluster.verify() == []", "assert not cluster.verify(), cluster.verify()")
