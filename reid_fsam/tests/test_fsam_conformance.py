from fsam_runs import TINY

from reid_core.testing import conformance_suite

test_conforms = conformance_suite("fsam", {"plugins": {"fsam": TINY}})
