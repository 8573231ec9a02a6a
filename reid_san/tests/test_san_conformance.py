from reid_core.testing import conformance_suite

SHORT = {"pg_epochs": 1, "pg_iterations": 2, "pg_batch": 8, "pairs_batch": 4}

test_conforms = conformance_suite("san", {"plugins": {"san": SHORT}})
