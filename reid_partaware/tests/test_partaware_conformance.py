from reid_core.testing import conformance_suite

test_conforms = conformance_suite("partaware")
test_conforms_on_every_setting = conformance_suite(
    "partaware",
    {
        "plugins": {
            "partaware": {
                "head": "d",
                "granularity": "four",
                "erased": "ignore",
                "norm": False,
                "weight": 0.5,
            }
        }
    },
)
