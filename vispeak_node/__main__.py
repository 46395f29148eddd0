"""`python -m vispeak_node` is `vispeak`."""

import sys

from vispeak_node.cli import main

sys.exit(main())
