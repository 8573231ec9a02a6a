from fsam_runs import TINY

from reid_core.testing import conformance_suite

# How many images of a batch each pose-specific block gets must be known before it can run.
test_conforms = conformance_suite("fsam", {"plugins": {"fsam": TINY}}, waits=1)
