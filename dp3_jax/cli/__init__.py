"""The command `dp3` and what `launch.py` needs: flags and dispatch."""

import os
import sys

# NumPy's products here are of a few rows. OpenBLAS's threads, which it starts when NumPy is loaded, wait for
# one another longer than they multiply, and take the time from all others.
if sys.argv[1:2] in (["anonymize"], ["live"]):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
