from __future__ import annotations

import pytest

from pydrm.admin.problem import Problem, problem_of
from pydrm.errors import (
    ClusterRefused,
    ConfigurationError,
    DiskFailed,
    DrmError,
    InvalidResource,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            InvalidResource("is missing", resource="r1", field="url"),
            Problem(400, "invalid", "resource 'r1', field 'url': is missing", resource="r1", field="url"),
        ),
        (
            ConfigurationError("must be seconds", field="timeout"),
            Problem(400, "invalid", "timeout: must be seconds", field="timeout"),
        ),
        (ClusterRefused("no r1", reason="not-found"), Problem(404, "not-found", "no r1")),
        (ClusterRefused("is being moved", reason="stale"), Problem(409, "stale", "is being moved")),
        (DiskFailed("I/O error"), Problem(500, "failed", "I/O error")),
    ],
)
def test_each_error_has_a_status_and_a_reason_of_its_own(error: DrmError, expected: Problem) -> None:
    """A program reads the status and the reason, a person the sentence, and both learn the field."""
    assert problem_of(error, has_majority=True) == expected


def test_unavailable_says_whether_a_majority_is_missing_or_only_slow() -> None:
    """Without a majority somebody must act; with one, repeating is enough."""
    error = Unavailable("gave up after 10 s")

    assert problem_of(error, has_majority=False) == Problem(503, "no-majority", "gave up after 10 s")
    assert problem_of(error, has_majority=True) == Problem(503, "timeout", "gave up after 10 s")
