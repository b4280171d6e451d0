"""The control of patience: a job's process that gives up whenever the store is away. Arguments as every child's."""

from __future__ import annotations

import sys
from pathlib import Path

from inhouse.worker import patience

patience.patiently = lambda work: work()

from inhouse.worker import child  # noqa: E402 - whoever waits is imported after there is nothing to wait with
from inhouse.worker.report import Report  # noqa: E402

if __name__ == "__main__":
    Report.offer = Report.flush  # type: ignore[method-assign]
    sys.exit(child.main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
