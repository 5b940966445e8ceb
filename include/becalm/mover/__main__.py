"""`python -m becalm.mover`: what runs in the mover's pod."""

from __future__ import annotations

import os
import sys

# numpy's linear algebra starts a thread for each processor when it is loaded, and they spin; nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  (the edge; the workers inherit it)

from becalm.mover.main import main

sys.exit(main())
