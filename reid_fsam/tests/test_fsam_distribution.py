from importlib.metadata import distribution

import reid_fsam


def test_the_version_is_the_metadata_s() -> None:
    assert reid_fsam.__version__ == distribution("reid-fsam").version
