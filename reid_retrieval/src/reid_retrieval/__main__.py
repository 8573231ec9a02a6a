"""``python -m reid_retrieval``: score saved features, whatever code made them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from reid_retrieval.errors import ConfigError, RetrievalError
from reid_retrieval.finding import PUBLISHED, find_protocol, offered_protocols
from reid_retrieval.protocols import GENERIC_PROTOCOLS
from reid_retrieval.writing import in_place, tables_aside


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what a user can mend is one line, and the exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m reid_retrieval", description="Exact retrieval scores of saved features."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("evaluate", help="score the features of a file")
    one.add_argument("features", type=Path, help=".npz, .npy, .parquet, .mat, or a folder of .npy")
    one.add_argument("--gallery", type=Path, help="the gallery's features; the first are queries")
    one.add_argument("--labels", type=Path, help="table (.csv) of an array; default: beside it")
    one.add_argument("--gallery-labels", type=Path, help="the same of the gallery's array")
    one.add_argument(
        "--protocol",
        action="append",
        metavar="NAME",
        help="name or file of rules (.toml), again for more of them; default: standard",
    )
    one.add_argument("--distance", default="cosine", help="cosine or euclidean; default: cosine")
    one.add_argument("--rerank", action="store_true", help="also after k-reciprocal re-ranking")
    one.add_argument("--products", help="library for the inner products; default: the fastest")
    one.add_argument("--json", type=Path, help="write the results; - is standard output")
    commands.add_parser("protocols", help="list the protocols that are known here")
    options = parser.parse_args(arguments)
    if getattr(options, "json", None) == Path("-"):
        options.json = Path("/dev/stdout")
    try:
        if options.command == "protocols":
            _list_protocols()
        else:
            with tables_aside(options.json) if options.json else nullcontext():
                _evaluate(options)
    except (RetrievalError, OSError) as error:
        print(f"reid-retrieval: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reid-retrieval: interrupted", file=sys.stderr)
        return 130
    return 0


def _list_protocols() -> None:
    shown = {protocol.name: protocol.text for protocol in offered_protocols()}
    shown |= {protocol.name: protocol.text for protocol in GENERIC_PROTOCOLS}
    shown |= {name: f"the rule '{rule}'" for name, rule in PUBLISHED.items() if name not in shown}
    for name, text in sorted(shown.items()):
        print(f"{name}: {text}")


def _require_writable(file: Path) -> None:
    if file.is_dir():
        raise ConfigError(f"--json {file}: is a folder; name a file in it")
    if in_place(file):
        return
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--json {file}: nothing can be written to {file.parent}: {error.strerror}"
        ) from error


def _evaluate(options: argparse.Namespace) -> None:
    # Not above: `--help` and the list of protocols need no NumPy.
    from reid_retrieval.files import read_features
    from reid_retrieval.public import evaluate

    if options.json:
        _require_writable(options.json)  # before the work whose result it shall hold
    names = options.protocol or ["standard"]
    protocols = [find_protocol(name) for name in names]
    query, gallery = read_features(
        options.features,
        options.gallery,
        labels=options.labels,
        gallery_labels=options.gallery_labels,
    )
    results = [
        result
        for rerank in ((False, True) if options.rerank else (False,))
        for result in evaluate(
            query.features,
            gallery.features,
            query.labels,
            gallery.labels,
            protocols,
            distance=options.distance,
            rerank=rerank,
            products=options.products,
        )
    ]
    for name, protocol in zip(names, protocols, strict=True):
        if name in PUBLISHED and protocol.name != name:
            print(f"{name}: reid-benchmarks is not installed; by its rule '{protocol.name}'")
    for result in results:
        print(result.summary())
        print(f"  {result.text}")
    if options.json:
        text = json.dumps([result.to_json() for result in results], indent=2) + "\n"
        if in_place(options.json):
            if sys.stdout is not None:  # closed
                sys.stdout.flush()
            with options.json.open("a", encoding="utf-8") as file:
                file.write(text)
            return
        part = options.json.with_name(f".part-{os.getpid()}.json")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(options.json)
        finally:
            part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
