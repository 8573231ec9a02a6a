"""Imports stand at the top of a module; those within a function have a reason, listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

from house import DISTRIBUTIONS, ROOT

COMMANDS = "help is printed without what the command needs"
HEAVY = "heavy, and needed by few of those who import the module"
EXTRA = "an extra, or what only some machines have"
LISTED = "listed without torch where a plugin has no manifest, or free of it for other processes"

PLACES = {
    "commands": COMMANDS,
    "cli": COMMANDS,
    "testing": "probes are copied into packages without a manifest",
    "reid_retrieval": "a library: whoever declares protocols does not wait for NumPy",
}
"""Folders or modules in which it is allowed."""

LIBRARIES = {
    **dict.fromkeys(("kornia", "sklearn", "timm", "tensorboardX"), HEAVY),
    **dict.fromkeys(("ai_edge_litert", "av", "huggingface_hub", "mlflow"), EXTRA),
    **dict.fromkeys(("onnxruntime", "open_clip"), EXTRA),
    **dict.fromkeys(
        ("matplotlib", "openvino", "pyarrow", "qdrant_client", "ray", "resource"), EXTRA
    ),
    **dict.fromkeys(("scipy", "submitit", "trackio", "umap", "wandb"), EXTRA),
}
"""Libraries that may be imported where they are needed."""

MODULES = {
    "reid_core/contract/vectors.py": LISTED,
    "reid_core/images.py": LISTED,
    "reid_core/machine/randomness.py": LISTED,
    "reid_core/plugins/calls.py": LISTED,
    "reid_core/plugins/discovery.py": LISTED,
    "reid_core/plugins/offers.py": LISTED,
    "reid_baselines/metric.py": EXTRA,
    "reid_search/models.py": COMMANDS,
    "reid_synthpeople/workers.py": "what is printed at import must not come between its answers",
}
"""Modules in which it is allowed."""


def within_functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the imported module of every import within a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if inside and isinstance(child, ast.Import):
                yield from ((child.lineno, alias.name) for alias in child.names)
            elif inside and isinstance(child, ast.ImportFrom):
                yield child.lineno, child.module or ""
            yield from walk(child, inside or isinstance(child, ast.FunctionDef))

    return walk(ast.parse(path.read_text("utf-8")), inside=False)


def test_imports_stand_at_the_top():
    found, used = [], set()
    for distribution in DISTRIBUTIONS:
        source = distribution.folder / "src"
        for path in sorted(source.rglob("*.py")):
            name = path.relative_to(source).as_posix()
            places = {part.removesuffix(".py") for part in name.split("/")} & {*PLACES}
            for line, module in within_functions(path):
                library = module.partition(".")[0]
                reasons = {*places, *({name} & {*MODULES}), *({library} & {*LIBRARIES})}
                used |= reasons
                if not reasons:
                    found.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert found == [], "move them to the top, or give a reason here"
    assert {*PLACES, *LIBRARIES, *MODULES} - used == set(), "a reason that nothing needs"
