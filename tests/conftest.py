"""Fixtures that every test may use."""

import os

# Products of tiny models are too small to share: threads would only wait for each other. Before torch loads,
# so that it holds for every process that a test starts, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.postgres"]
