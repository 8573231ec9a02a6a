from unsup_cc_runs import START, TINY

from reid_core.testing import conformance_suite

test_conforms = conformance_suite("unsup_cc", {"plugins": {"unsup_cc": TINY}, "model": START})
