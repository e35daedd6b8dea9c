"""
How much Hypothesis tries: the same cases on every run, or many more with PYDRM_HYPOTHESIS=long.

The long profile is random, and prints what reproduces a failure. It takes minutes: run it with
`-o faulthandler_timeout=0`, because a trace of running threads can crash Python 3.11.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "usual",
    derandomize=True,
    deadline=None,
    max_examples=300,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    settings.get_profile("usual"),
    derandomize=False,
    print_blob=True,
    max_examples=2000,
    stateful_step_count=100,
)
settings.load_profile(os.environ.get("PYDRM_HYPOTHESIS", "usual"))
