"""python -m inhouse.worker [--doctor]"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if "--doctor" in sys.argv[1:]:
        from inhouse.worker.doctor import report

        sys.stdout.write(report() + "\n")
    else:
        from inhouse.worker.main import main

        sys.exit(main())
