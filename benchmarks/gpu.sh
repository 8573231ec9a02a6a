#!/usr/bin/env bash
# One command for a few minutes on one GPU, or tiny on a CPU: everything that gpu.py lists.
#
#   benchmarks/gpu.sh [--device cuda] [--smoke] [--minutes 8] [--only PART] [--out DIR]
#
# Figures: DIR/gpu.json (runs/gpu/gpu.json), after each part. What this machine lacks is taken from the
# folder WHEELS (wheels/gpu), which `make gpu-wheels` fills elsewhere; nothing is fetched here. What is
# installed already stays as it is. PYTHON names the interpreter, by default that of .venv, or python3.
set -euo pipefail
given=()
while [ $# -gt 0 ]; do  # DIR is the caller's
    case $1 in
        --out) given+=(--out "$(realpath -m "${2:?--out needs a folder}")"); shift 2 ;;
        --out=*) given+=(--out "$(realpath -m "${1#--out=}")"); shift ;;
        *) given+=("$1"); shift ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
default=python3
[ -x .venv/bin/python ] && default=.venv/bin/python
python=${PYTHON:-$default} wheels=${WHEELS:-wheels/gpu}

if compgen -G "$wheels/*.whl" >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    lacking=$("$python" -P - "$wheels" <<'PYTHON'
import re
import sys
from importlib import metadata
from pathlib import Path

have = {re.sub(r"[-_.]+", "_", one.name).lower() for one in metadata.distributions()}
print(*(file for file in sorted(Path(sys.argv[1]).glob("*.whl"))
        if re.sub(r"[-_.]+", "_", file.name.split("-")[0]).lower() not in have), sep="\n")
PYTHON
    )
    if [ -n "$lacking" ]; then
        xargs "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" <<<"$lacking"
        export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
    fi
fi
"$python" -P benchmarks/gpu.py "${given[@]}"
