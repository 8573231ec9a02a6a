"""A report in a real browser: no error, nothing wider than the screen, sorting and filters work.

The browser runs a probe that is appended to the page and prints the document with what it found;
without a browser on the machine the test is skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stored_runs import stored_run

from reid_core import DataSet
from reid_core.evaluation.records import image_names
from reid_search.reporting.gathering import RunFolder, read_folder
from reid_search.reporting.lists import chosen_queries
from reid_search.reporting.page import Options, render

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """
<script>
const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
const cells = (table, column) =>
  [...table.tBodies[0].rows].map((row) => row.children[column].textContent.trim());
const people = document.querySelector(".people-table");
const button = people.tHead.rows[0].children[2].querySelector("button");
const found = { before: cells(people, 2) };
button.click();
found.up = cells(people, 2);
found.sorted = people.tHead.rows[0].children[2].getAttribute("aria-sort");
button.click();
found.down = cells(people, 2);
const lists = document.querySelector(".lists");
const shown = () => [...lists.querySelectorAll(".query")].filter((one) => one.offsetHeight > 0);
found.all = shown().length;
const choose = (name, value) => {
  const select = lists.querySelector(`select[name=${name}]`);
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
choose("group", "worst");
found.worst = shown().map((one) => one.dataset.group);
choose("camera", "1");
found.worst_of_camera = shown().map((one) => one.dataset.camera);
found.said = lists.querySelector("output").textContent;
choose("group", "");
choose("camera", "");
choose("person", "3");
found.of_person = shown().map((one) => one.dataset.person);
found.images = [...document.images].every((image) => image.complete && image.naturalWidth > 0);
found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.problems = problems;
document.body.append(Object.assign(document.createElement("pre"), { id: "found" }));
document.getElementById("found").textContent = JSON.stringify(found);
</script>
"""


@pytest.fixture
def folder(toy_tiny: DataSet, tmp_path: Path) -> RunFolder:
    """A run with four queries on the toy data, with its names of files and without a model."""
    asked = image_names(toy_tiny, toy_tiny.query[:4])
    offered = image_names(toy_tiny, toy_tiny.gallery[:3])
    path = stored_run(tmp_path / "run", [9, 1, 2, 4], fingerprint=toy_tiny.fingerprint())
    content = json.loads((path / "results.json").read_text("utf-8"))
    for query, name in zip(content["results"][0]["queries"], asked, strict=True):
        query |= {"file": name, "first": offered}
    (path / "results.json").write_text(json.dumps(content), "utf-8")
    return read_folder(path)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_page_works_in_a_browser(
    width: int, folder: RunFolder, toy_tiny: DataSet, tmp_path: Path
) -> None:
    text = render(
        [folder], None, {folder.stored.path: toy_tiny}, Options(resamples=50), lambda *_: None
    )
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"{PROBE}</body>"), "utf-8")
    done = subprocess.run(
        [
            str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "--disable-dev-shm-usage", "--enable-logging=stderr", f"--window-size={width},900",
            f"--user-data-dir={tmp_path / 'profile'}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert match is not None, done.stdout[-500:] + done.stderr[-2000:]
    found = json.loads(match[1].replace("&quot;", '"'))
    assert found["problems"] == []
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert found["before"] == ["55.6", "50.0", "25.0"]  # people 1, 2, 3
    assert found["up"] == ["25.0", "50.0", "55.6"]
    assert found["sorted"] == "ascending"
    assert found["down"] == ["55.6", "50.0", "25.0"]
    queries = folder.stored.result("standard").queries
    chosen = chosen_queries(queries, 8)
    worst = [queries[place] for place, group in chosen if group == "worst"]
    assert found["all"] == len(chosen) == 4
    assert found["worst"] == ["worst"] * len(worst)
    cameras = [str(one["camid"]) for one in worst if one["camid"] == 1]
    assert found["worst_of_camera"] == cameras
    assert found["said"] == f"{len(cameras)} of 4 lists"
    assert found["of_person"] == ["3"]
    assert found["images"]
    assert found["wide"] <= 0
