"""The package's tests."""

import os

# Before numpy is loaded, and for the processes that tests start: the workers of pytest-xdist share
# the cores already, and threads that wait for one another in small products only burn them.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
