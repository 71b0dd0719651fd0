"""``python -m tta_bench`` is ``tta-bench``."""

import sys

from tta_bench.cli import main

sys.exit(main())
