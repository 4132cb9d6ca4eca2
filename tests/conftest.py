"""How long Hypothesis searches: `ci` by default, twenty times as long with FLOWMETRICS_HYPOTHESIS=long."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = 100

for name, times in (("ci", 1), ("long", 20)):
    settings.register_profile(
        name,
        max_examples=EXAMPLES * times,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("FLOWMETRICS_HYPOTHESIS", "ci"))
