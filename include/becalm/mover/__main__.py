"""`python -m becalm.mover`: what runs in the mover's pod."""

from __future__ import annotations

import sys

from becalm.mover.main import main

sys.exit(main())
