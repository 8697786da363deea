"""Drills break a running Fairlead on purpose. `make drills` runs their long form, the suite a short one."""

import os

LONG = os.environ.get("FAIRLEAD_TEST_DRILLS") == "long"
