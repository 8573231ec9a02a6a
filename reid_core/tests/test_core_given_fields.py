"""Files that the user names for a field: they rule over labelers, and may have a layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.labelers import LabelContext, Labeler
from reid_core.contract.plugin import Need, Plugin
from reid_core.loop.assembly import Assembly
from reid_core.testing.tiny import tiny_assembly


class Painter(Plugin):
    """Makes black textures, and prefers them to the truth."""

    needs = (Need("texture"),)
    defaults = {"labels.texture": "painter"}  # noqa: RUF012

    @hookimpl
    def reid_pseudo_labels(self) -> list[Labeler]:
        return [Labeler(SHARED_FIELDS["texture"], self.paint, key="black")]

    def paint(self, labels: LabelContext) -> list[Any]:
        return [np.zeros((3, 8, 8), np.uint8) for _ in labels.samples]


def assembled(cache: Path, **sections: Any) -> Assembly:
    return tiny_assembly(("painter",), sections, cache=cache, classes={"painter": Painter})


def given(cache: Path, root: Path) -> Path:
    for sample in tiny_assembly(cache=cache).ctx.main.samples:
        Image.new("RGB", (8, 8), (255, 0, 0)).save(root / f"{sample.path.stem}.png")
    return root


def test_a_labeler_that_a_plugin_prefers_rules_over_the_data_set(reid_cache: Path) -> None:
    value = assembled(reid_cache).ctx.main.samples[0].fields["texture"]
    assert "labels/painter" in Path(str(value)).as_posix()


def test_the_user_s_files_rule_over_it(reid_cache: Path, tmp_path: Path) -> None:
    root = given(reid_cache, tmp_path)
    main = assembled(reid_cache, fields={"texture": root}).ctx.main
    assert {Path(str(sample.fields["texture"])).parent for sample in main.samples} == {root}
    assert main.fields["texture"].layout is None


def test_their_layout_stands_beside_them(reid_cache: Path, tmp_path: Path) -> None:
    root = given(reid_cache, tmp_path)
    (root / "layout.txt").write_text("smpl\n")
    main = assembled(reid_cache, fields={"texture": root}).ctx.main
    assert main.fields["texture"].layout == "smpl"
