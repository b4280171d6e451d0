"""How a job's process ends, in exit codes: the one word that a dying child leaves to its worker.

It knows no job and no store. The worker imports it, so it brings no torch.
"""

from __future__ import annotations

DONE = 0
"""The outcome is in the store, whatever it was."""
AGAIN = 1
"""It failed on its own, and counts as an attempt."""
OTHER_RELEASE = 3
"""It found the database to be of another release than its own code."""
SMALLER = 75
"""Memory ran out, and the next attempt takes half as much: it counts as none."""
DEVICE_LOST = 76
"""The device failed beneath the job, or the one that it must have is gone."""
STORE_AWAY = 77
"""The store went away at a moment when nothing could wait for it: no fault of the job's."""
NO_DEVICE = 78
"""The device that the setting names was never there: no fault of the job's, and no other job can run here either."""
BLAMELESS = (OTHER_RELEASE, SMALLER, STORE_AWAY, NO_DEVICE)
"""Ends that are no attempt of the job's."""
