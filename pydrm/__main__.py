"""`python -m pydrm` is `pydrm`."""

import sys

from pydrm.cli.main import main

sys.exit(main())
