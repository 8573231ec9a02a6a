from reid_core.testing import conformance_suite

test_conforms = conformance_suite("example")
