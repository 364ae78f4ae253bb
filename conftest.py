"""All tests: the same numbers wherever the same numbers are multiplied."""

import os

# On some processors the results of MKL's matrix products depend on where in memory the factors lie, in the last digit:
# two copies of one model then differ. Read when the first product is computed; without MKL it is not read.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
