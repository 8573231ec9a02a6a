"""The model card: what a model is, what it reached, on whose images, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reid_core import ConfigError
from reid_search.comparing.stored import label_of

PROCEDURAL = {"synthpeople": "mit", "toy": "mit"}
"""Data sets that show nobody, with their licence: they are drawn by code of this project."""

WITHDRAWN = ("duke", "occluded-duke")
"""Data sets that their owners have withdrawn: what learnt from them is not passed on."""

MUST_NOT = (
    "Covert tracking or surveillance of individuals, by anybody, for any purpose.",
    "Linking images of people to names, faces, accounts or records.",
    "Decisions about a person: a similarity is no proof of identity.",
    "Any use without a legal basis, without the consent that the law asks for, or without an "
    "answer to those who do not want to be seen.",
)
"""What a model must not be used for."""


def licence_of(data: Sequence[str], given: str | None) -> str:
    """Return the licence of the data sets that a model learnt from.

    Args:
        data: their names as after ``--data``.
        given: what the user says, if anything.

    Raises:
        ConfigError: nobody says it, or a data set is withdrawn.
    """
    for name in data:
        if _family(name) in WITHDRAWN:
            raise ConfigError(
                f"'{name}' has been withdrawn by its owners: models that learnt from it are not "
                "passed on"
            )
    unknown = [name for name in data if _family(name) not in PROCEDURAL]
    if given is None and unknown:
        raise ConfigError(
            f"a model card needs the licence of '{unknown[0]}': read whether it allows models to "
            "be passed on, then say it with --data-licence"
        )
    return given or ", ".join(dict.fromkeys(PROCEDURAL[_family(name)] for name in data))


def card_text(
    *,
    name: str,
    licence: str,
    data: Sequence[str],
    data_licence: str,
    plugins: Mapping[str, str],
    description: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> str:
    """Return a model card: YAML for the hub, then text for people.

    Args:
        name: ``owner/name`` of the model, or of its folder.
        licence: of the weights.
        data: names of what it learnt from.
        data_licence: under which terms.
        plugins: versions by name.
        description: the embedder's JSON.
        results: stored results.
        settings: further facts of the run, by name.
    """
    from huggingface_hub import ModelCardData

    synthetic = all(_family(one) in PROCEDURAL for one in data)
    head = ModelCardData(
        license=licence,
        library_name="reid-core",
        tags=["person-re-identification", "reid", *(["synthetic"] if synthetic else [])],
        pipeline_tag="image-feature-extraction",
    )
    inputs, learnt = description["input"], ", ".join(f"`{one}`" for one in data)
    used = ", ".join(f"{key} {value}" for key, value in sorted(plugins.items()))
    lines = [
        *("---", head.to_yaml().strip(), "---", "", f"# {name}", ""),
        "An embedder for person re-identification: it turns the image of one person into a vector, "
        "and images of one person into vectors that are close.",
        "",
        f"- input: RGB, {inputs['height']} x {inputs['width']}, in [0, 1]; resized "
        f"{inputs['resize']}; the normalisation is inside",
        f"- output: {description['dim']} numbers, compared by their cosine",
        f"- made with: {used}",
        *(f"- {key}: {value}" for key, value in settings.items()),
        "",
        *("```python", "from reid_core import load_embedder", ""),
        *(f'embedder = load_embedder("hf://{name}@REVISION")', "```", ""),
        *("## Data", "", f"It learnt from {learnt}; licence: {data_licence}."),
    ]
    if synthetic:
        lines.append("The people are rendered: figures on them say nothing about real cameras.")
    lines += ["", "## Results", ""]
    if results:
        lines += [
            "In per cent, of one run. mAP is the precision at each match; MRR, of single-shot "
            "galleries, must not be read against it.",
            "",
        ]
    else:
        lines += ["None: the data set has no queries.", ""]
    for result in results:
        metrics = result["metrics"]
        lines += [
            f"`{label_of(result)}`: {result['text']}; fingerprint of the data "
            f"{result['fingerprint']}",
            "",
            f"| {' | '.join(metrics)} |",
            f"| {' | '.join('---' for _ in metrics)} |",
            f"| {' | '.join(f'{100 * value:.1f}' for value in metrics.values())} |",
            "",
        ]
    lines += ["## What it must not be used for", "", *(f"- {line}" for line in MUST_NOT)]
    return "\n".join(lines) + "\n"


def _family(data: str) -> str:
    return data.partition("/")[0].partition(":")[0]
