import subprocess
import sys
from importlib.metadata import distribution

import reid_synthpeople
from reid_core.testing import conformance_suite


def test_the_version_is_the_metadata_s() -> None:
    assert reid_synthpeople.__version__ == distribution("reid-synthpeople").version


def test_what_lists_data_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys, reid_synthpeople as s; p = s.Synthpeople('synthpeople');"
        "p.reid_datasets(); p.reid_evaluation_protocols();"
        "sys.exit(' '.join({'numpy', 'torch', 'PIL'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


test_conforms = conformance_suite("synthpeople")
