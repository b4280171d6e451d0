"""Fixtures that every test may use."""

import os
import signal

# Products of tiny models are too small to share: threads would only wait for each other. Before torch loads,
# so that it holds for every process that a test starts, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts in the background ignores Ctrl-C, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.postgres"]
