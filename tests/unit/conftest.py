"""How many examples Hypothesis tries here: forty, so that the quick tests are quick; with HYPOTHESIS_PROFILE=whole its own hundred.

No example has a deadline: how fast a machine is, is no property of what is tested.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("whole", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
