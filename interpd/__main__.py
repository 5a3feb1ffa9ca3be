"""``python -m interpd``: the command line."""

import sys

from interpd.cli import main

sys.exit(main())
