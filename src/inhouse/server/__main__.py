"""`python -m inhouse.server`."""

import sys

from inhouse.server.main import main

sys.exit(main())
