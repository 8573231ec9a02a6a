from importlib.metadata import distribution

import reid_unsup_cc


def test_the_version_is_the_metadata_s() -> None:
    assert reid_unsup_cc.__version__ == distribution("reid-unsup-cc").version
