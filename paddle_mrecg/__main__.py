# SPDX-License-Identifier: Apache-2.0
"""``python -m paddle_mrecg`` is the command ``paddle-mrecg``."""
import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
