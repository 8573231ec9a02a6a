from importlib.metadata import distribution

import reid_synthpeople
from reid_core.testing import conformance_suite


def test_the_version_is_the_metadata_s() -> None:
    assert reid_synthpeople.__version__ == distribution("reid-synthpeople").version


test_conforms = conformance_suite("synthpeople")
