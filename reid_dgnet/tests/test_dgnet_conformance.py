from reid_core.testing import conformance_suite

SMALL = {
    "plugins": {
        "dgnet": {
            "width": 1,
            "aspp": False,
            "blocks": 1,
            "dim": 16,
            "anchors": 4,
            "teacher_epochs": 1,
            "teacher_iterations": 1,
            "warmup_begin": -1,
            "warmup_rate": 2.0,
            "picture": 0,
        }
    },
}
test_conforms = conformance_suite(
    "dgnet",
    SMALL,
    # A rank composes the people of its own rows: the pairs are others than one process draws.
    per_rank=("dgnet/*", "*@dgnet/*"),
)
