"""Write composition.md: what happens when two plugins run together: ``python docs/composition.py``.

Every pair is assembled on the toy data, the gradient of every loss term is followed, and two steps
are trained. What is printed about a pair is what was found; the reason is written by hand, in
`REASONS`. A test does the same for every pair and compares. ``further`` as an argument writes the
sections on further baselines alone, ``beside`` that on baselines beside each other.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from reid_core.contract.step import Synthetic
from reid_core.errors import ConflictError, ReidError
from reid_core.loop.assembly import Assembly
from reid_core.plugins.discovery import installed
from reid_core.runs.reach import Reach, follow_terms
from reid_core.testing.tiny import Recorder, tiny_assembly

PAGE = Path(__file__).resolve().parent / "composition.md"
NOTE = "<!-- Made by docs/composition.py from what the plugins do. Do not edit. -->"

Sections = Mapping[str, Mapping[str, Any]]

ALL = ("dgnet", "fsam", "mgn", "osnet", "partaware", "pcb", "san", "unsup_cc")
NAMES = tuple(name for name in ALL if name in installed())
"""The plugins whose pairs are shown."""

TINY: dict[str, dict[str, Any]] = {
    # Six stripes at stride 16 need 96 rows.
    "data": {"height": 96, "width": 32},
    "model": {"start_epochs": 1},
    "schedule": {"epochs": 1, "iterations_per_epoch": 2},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "dgnet": {
        "width": 1,
        "aspp": False,
        "blocks": 1,
        "dim": 16,
        "anchors": 4,
        "teacher_epochs": 1,
        "teacher_iterations": 1,
        "picture": 0,
        # Generated images from the first step on.
        "warmup_begin": -1,
        "warmup_rate": 2.0,
    },
    "fsam": {
        "parser_data": "toy:tiny",
        "parser_epochs": 1,
        "parser_iterations": 2,
        "extractor": "test_resnet",
    },
    "san": {"pg_epochs": 1, "pg_iterations": 2, "pg_batch": 8, "pairs_batch": 4},
    "unsup_cc": {
        # 48 images have few neighbours.
        "clustering": {"k1": 4, "k2": 1, "min_samples": 2, "outliers": "singletons"},
        "synthesis": {"outfits": 1},
    },
}
"""What makes each plugin small."""

ENCODERS = {"osnet": "osnet_x0_25"}
"""Encoders that a plugin brings for ``--backbone``."""


@dataclass(frozen=True)
class Choice:
    """What a user can say where two plugins conflict.

    Args:
        flag: as on the command line.
        sections: the same as configuration, on tiny data.
        why: what comes of it.
    """

    flag: str
    sections: Sections
    why: str


@dataclass(frozen=True)
class Reason:
    """Why it makes sense that two plugins train together, or that they do not.

    Args:
        why: a few sentences.
        choices: what the message of a conflict proposes; empty where they train as they are.
    """

    why: str
    choices: tuple[Choice, ...] = ()


def _own(plugin: str, why: str) -> Choice:
    return Choice(f"--own embedding={plugin}", {"own": {"embedding": plugin}}, why)


REASONS: dict[tuple[str, str], Reason] = {
    ("dgnet", "fsam"): Reason(
        "DG-Net swaps what FSAM tells apart. Its images carry the masks that FSAM's parser sees in "
        "them, so the parser is kept honest on them, too, and the two streams are compared. That "
        "an image looks like the person who lent the clothes is asked of the embeddings that "
        "describe people at test, never of the shape stream: the shape is somebody else's. FSAM's "
        "terms are means over the two passes: once there are generated images, those of the batch "
        "weigh half of what they did (fsam.*_weight)."
    ),
    ("dgnet", "mgn"): Reason(
        "Both say what describes a person at test: DG-Net by two vectors of the pooled map, MGN by "
        "eight of its three maps.",
        (
            _own(
                "dgnet",
                "MGN is its encoder and its vectors; without the slot nothing of it would be left.",
            ),
            _own(
                "mgn",
                "DG-Net keeps its generator and its discriminator, which also learns in MGN's "
                "triplet steps. MGN's vectors judge whose clothes an image shows; no loss of "
                "DG-Net trains the encoder.",
            ),
        ),
    ),
    ("dgnet", "osnet"): Reason(
        "OSNet is the appearance encoder. The teacher has the same encoder, at the stride that "
        "OSNet has."
    ),
    ("dgnet", "partaware"): Reason(
        "A generated image has the body of the person who lent the structure, and the core hands "
        "on that person's part labels. So the part head learns from generated images as from real "
        "ones, as one batch (equation 8); they are detached, so it asks nothing of the generator."
    ),
    ("dgnet", "pcb"): Reason(
        "Both say what describes a person at test: DG-Net by two vectors of the pooled map, PCB by "
        "one per stripe.",
        (
            _own("dgnet", "PCB is its stripes: without the slot it adds nothing to the run."),
            _own(
                "pcb",
                "DG-Net keeps its generator and its discriminator. PCB's stripes judge whose "
                "clothes an image shows; no loss of DG-Net trains the encoder.",
            ),
        ),
    ),
    ("dgnet", "san"): Reason(
        "A generated image wears the clothes of the person who lent the appearance, and the core "
        "hands on that person's texture. So SAN regresses from a generated image what its "
        "appearance is. The triplets of SAN stay with real rows, whose identity is sure. L_Rec is "
        "the mean of both passes: once there are generated images, those of the batch weigh half "
        "of what they did (san.rec)."
    ),
    ("dgnet", "unsup_cc"): Reason(
        "The teacher is a classifier of the training identities and is trained before the run. "
        "Identities that are clustered anew at every epoch are unknown to it.",
        (
            Choice(
                "-s dgnet.teacher=none",
                {"plugins": {"dgnet": {"teacher": "none"}}},
                "Without a teacher everything else of DG-Net works on clusters: who swaps clothes "
                "with whom, and whose image a composed one should be. For both it is another image "
                "of the person who lent the clothes. Mind that they differ in what they are for: "
                "to DG-Net clothes tell who somebody is, `unsup_cc` wants to see through them.",
            ),
        ),
    ),
    ("fsam", "mgn"): Reason(
        "MGN has no one appearance embedding: the shape stream's prediction is compared with those "
        "of all eight vectors, and its similarities with the encoder's maps. The comparison runs "
        "in the steps of cross-entropy; MGN's triplet steps see MGN alone."
    ),
    ("fsam", "osnet"): Reason(
        "OSNet is the appearance stream. The shape stream has a last block per pose, which needs a "
        "ResNet; where the run's encoder is a plugin's, it is a `resnet50`, as in the paper, "
        "or what `fsam.extractor` names."
    ),
    ("fsam", "partaware"): Reason(
        "The part head sits on the last map of the appearance stream and knows of no identities, "
        "the shape stream has a parser of its own. They meet in the encoder alone: one asks its "
        "map where the parts are, the other which shapes are alike."
    ),
    ("fsam", "pcb"): Reason(
        "The stripes are the appearance stream's embeddings: the shape stream's prediction is "
        "compared with each of the six."
    ),
    ("fsam", "san"): Reason(
        "Two training-only neighbours of one encoder: a shape stream on masks, a decoder of "
        "textures. Batches of pairs have no identities and run through the decoder alone; the "
        "shape stream never sees them."
    ),
    ("fsam", "unsup_cc"): Reason(
        "Shape learns from clusters in place of labels: it gets a memory like every embedding, and "
        "similarities to the memories are the predictions that the two streams compare."
    ),
    ("mgn", "osnet"): Reason(
        "MGN is a ResNet that is split after conv4_1 into three branches. OSNet has no such place, "
        "and a run has one encoder.",
        (
            Choice(
                "--backbone resnet50",
                {"model": {"backbone": "test_resnet"}},
                "MGN splits the ResNet; OSNet, which is only offered by name, adds nothing.",
            ),
        ),
    ),
    ("mgn", "partaware"): Reason(
        "One head sits on all three of MGN's last maps, as in the paper on part awareness. It "
        "learns in the steps of cross-entropy; `mgn.also` takes it into the triplet "
        "steps, too."
    ),
    ("mgn", "pcb"): Reason(
        "Both say what describes a person at test: stripes of three maps, or of one.",
        (
            _own("mgn", "PCB is its stripes: without the slot it adds nothing to the run."),
            _own(
                "pcb",
                "MGN is its encoder and its vectors; without the slot nothing of it would be left.",
            ),
        ),
    ),
    ("mgn", "san"): Reason(
        "SAN starts the encoder from the one that SAN-PG trained, a plain ResNet. MGN's has other "
        "parameters: three copies of the last stages.",
        (
            Choice(
                "-s san.start=none",
                {"plugins": {"san": {"start": "none"}}},
                "SAN-PG still makes the pseudo textures; encoder and decoder start as the run "
                "says. The decoder reads the first of the three maps, and batches of pairs come "
                "in MGN's triplet steps, too.",
            ),
        ),
    ),
    ("mgn", "unsup_cc"): Reason(
        "Clusters of random features mean nothing, so the encoder starts from pre-training without "
        "labels: a stage that trains a plain encoder. MGN's has other parameters.",
        (
            Choice(
                "-s model.start=random",
                {"model": {"start": "random"}},
                "The encoder then starts as the run says, as a rule from ImageNet's weights. Each "
                "of the eight vectors gets a memory in place of its classifier, and MGN's triplets "
                "take their identities from the clusters; in its triplet steps no memory moves.",
            ),
        ),
    ),
    ("osnet", "partaware"): Reason(
        "The part head sits on OSNet's last map; it asks for a map with channels and a stride, "
        "nothing else."
    ),
    ("osnet", "pcb"): Reason("The stripes are cut from OSNet's last map."),
    ("osnet", "san"): Reason(
        "SAN-PG trains an OSNet, and the run's OSNet starts from it; the decoder reads its last "
        "map."
    ),
    ("osnet", "unsup_cc"): Reason(
        "Clusters are made from whatever the run deploys, here OSNet's map, pooled."
    ),
    ("partaware", "pcb"): Reason(
        "The paper's own combination: the part head beside the stripes, on the same map."
    ),
    ("partaware", "san"): Reason(
        "Two heads on one map, one for parts, one for the texture. Batches of pairs carry no part "
        "labels and train the decoder alone."
    ),
    ("partaware", "unsup_cc"): Reason(
        "The part head needs no identities. Images in other clothes keep their body, and so their "
        "part labels: the head learns from them, too. Note that part labels are supervision: a run "
        "with them is unsupervised in identities alone."
    ),
    ("pcb", "san"): Reason(
        "The decoder reads the same map as the stripes; SAN's triplets work on the decoder's maps "
        "and leave the stripes alone."
    ),
    ("pcb", "unsup_cc"): Reason(
        "Each stripe gets a memory in place of its classifier; clusters are made from all six "
        "vectors together, as they are deployed."
    ),
    ("san", "unsup_cc"): Reason(
        "Each starts the encoder from a stage: SAN from SAN-PG, which has learned textures, the "
        "other from pre-training without labels. An encoder starts once.",
        (
            Choice(
                "-s san.start=none",
                {"plugins": {"san": {"start": "none"}}},
                "SAN-PG still makes the pseudo textures, which need no identities, and SAN's "
                "triplets take the clusters'. Images in other clothes join the batch, but nobody "
                "knows their texture: SAN regresses that of real rows alone.",
            ),
            Choice(
                "-s model.start=random",
                {"model": {"start": "random"}},
                "The same, from SAN-PG's encoder: the first clusters are those of textures.",
            ),
        ),
    ),
}
"""All pairs in name order."""

_NO_START = REASONS["mgn", "san"].choices[0]

TOGETHER: tuple[tuple[tuple[str, ...], tuple[Choice, ...]], ...] = (
    (("dgnet", "fsam", "osnet", "partaware", "san"), ()),
    (
        ("dgnet", "fsam", "osnet", "partaware", "san", "unsup_cc"),
        (*REASONS["dgnet", "unsup_cc"].choices, _NO_START),
    ),
    (("fsam", "osnet", "partaware", "pcb", "san", "unsup_cc"), (_NO_START,)),
    (
        ("fsam", "mgn", "partaware", "san", "unsup_cc"),
        (_NO_START, *REASONS["mgn", "unsup_cc"].choices),
    ),
)
"""All that go together at once, with what must be set for it."""


PAPERS = ("dgnet", "fsam", "partaware", "san", "unsup_cc")

FURTHER: dict[str, Sections] = {
    "agw": {},
    "bot": {},
    "cal": {"plugins": {"cal": {"begin": 0}}},
    "clipreid": {
        "model": {**TINY["model"], "backbone": "test_vit"},
        "plugins": {"clipreid": {"prompt_epochs": 1}},
    },
    "cluster_contrast": {
        "plugins": {"cluster_contrast": {"k1": 6, "k2": 2, "min_samples": 2}},
    },
    "ema": {},
    "globalpool": {},
    "ibn": {"model": {**TINY["model"], "backbone": "test_resnet_ibn_a"}},
    "meanteacher": {},
    "metric": {},
    "spcl": {"plugins": {"spcl": {"k1": 6, "k2": 2, "min_samples": 2}}},
    "tracklets": {"data": {"name": "toy/tracklets:tiny", "frames": 2}},
    "transreid": {
        "model": {**TINY["model"], "backbone": "test_vit"},
        "plugins": {"transreid": {"groups": 2}},
    },
}
"""Baselines that are shown beside the papers alone, with what makes them small."""

BASELINES = tuple(sorted([*FURTHER, "mgn", "osnet", "pcb"]))
"""All baselines, which are shown beside each other, too."""

ANY_ENCODER = "clipreid"
"""It takes whatever encoder another one brings, and is shown in a transformer otherwise."""


# What happens -----------------------------------------------------------------------------------


ROUTES = {
    "join": "rows that join the batch",
    "detached": "detached, to train the encoder",
    "frozen_copy": "before a frozen copy, to train who makes them",
}
LABELS = "parts, pose and camera of one row, identity and texture of another"


@dataclass(frozen=True)
class Run:
    """What was found out about a run of plugins.

    Args:
        names: the plugins.
        assembly: the run, trained for two steps.
        reach: of all loss terms, before the training.
        trace: value of every term, by step.
        made: how generated images came in, by name: their route, and whose labels they have.
    """

    names: tuple[str, ...]
    assembly: Assembly
    reach: list[Reach]
    trace: list[dict[str, float]]
    made: dict[str, str]


def assemble_together(
    names: Iterable[str], cache: Path, *layers: Sections, reverse: bool = False
) -> Assembly:
    """Assemble plugins on tiny data.

    Args:
        names: of plugins.
        cache: the cache folder.
        layers: configuration over the tiny one.
        reverse: name them the other way round.

    Raises:
        ConflictError: they do not go together.
    """
    chosen = sorted(names, reverse=reverse)
    sections: dict[str, dict[str, Any]] = {
        **TINY,
        "plugins": {name: SETTINGS[name] for name in chosen if name in SETTINGS},
    }
    for name in chosen:
        if name in ENCODERS:
            sections["model"] = {**TINY["model"], "backbone": ENCODERS[name]}
    for layer in layers:
        for section, values in layer.items():
            known = sections.get(section, {})
            if section == "plugins":
                values = {n: {**known.get(n, {}), **own} for n, own in values.items()}
            sections[section] = {**known, **values}
    return tiny_assembly(chosen, sections, cache=cache)


def measure(assembly: Assembly) -> Run:
    """Follow the terms of a run, and train its two steps."""
    made: dict[str, str] = {}
    synthesise = assembly.calls.data_synthesis

    def noted(*args: Any) -> list[tuple[str, Synthetic]]:
        found = synthesise(*args)
        for _, one in found:
            same = bool((one.spatial_from == one.identity_from).all())
            labels = "all labels of one row" if same else LABELS
            made[one.name] = f"{ROUTES[one.route]}; {labels}"
        return found

    assembly.calls.data_synthesis = noted
    reach = follow_terms(assembly)
    trainer = Recorder(assembly)
    trainer.fit()
    return Run(assembly.config.run.plugins, assembly, reach, trainer.trace, made)


def facts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what a run does, as pairs of what it is about and what was found."""
    ctx, plan = run.assembly.ctx, run.assembly.parts.plan
    yield "updates", ", then ".join(_update(update) for update in plan.updates)
    trains = [r for r in run.reach if r.weight and "encoder" in r.parts]
    yield "the encoder learns from", _names(r.term for r in trains)
    across: dict[str, set[str]] = {}
    for reach in run.reach:
        for part in reach.parts if reach.weight else ():
            if _across(run.names, reach.term, part):
                across.setdefault(reach.term, set()).add(part)
    for term, parts in _grouped(across).items():
        yield "across plugins", f"{term} trains {parts}"
    for name, how in sorted(run.made.items()):
        terms = {r.term for r in run.reach if r.weight and name in r.passes}
        seen = f"; seen by {_names(terms)}" if terms else ""
        yield "generated images", f"`{name}`, {how}{seen}"
    owner = ctx.slots.get("labels:pid")
    yield "identities", f"made by `{owner}`" if owner else "the data set's"
    yield "deployed", _names(run.assembly.embedder().heads)


def _update(update: Any) -> str:
    period, offset = update.every
    often = "" if period == 1 else f" (steps {offset} modulo {period})"
    return f"`{update.name}`{often}"


def _across(names: Iterable[str], term: str, part: str) -> bool:
    """Return whether a term of one plugin trains a part of another."""
    owner, other = term.partition("/")[0], part.partition("/")[0]
    # What is judged on generated images is their maker's business.
    owner = term.partition("@")[2].partition("/")[0] or owner
    return owner != other and {owner, other} <= {*names}


def _names(names: Iterable[str]) -> str:
    """Return names for reading: numbered ones together, as in ``pcb/stripe*/ce``."""
    short = sorted({re.sub(r"(?<=[a-z])\d+", "*", name) for name in names})
    return ", ".join(f"`{name}`" for name in short) or "nothing"


def _grouped(across: Mapping[str, set[str]]) -> dict[str, str]:
    """Return which parts terms train, numbered terms together."""
    together: dict[str, set[str]] = {}
    for term, parts in across.items():
        together.setdefault(_names([term]), set()).update(parts)
    return {term: _names(parts) for term, parts in sorted(together.items())}


# The page ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of a pair, as it is or with a choice.

    Args:
        choice: what was said; None for the pair as it is.
        run: where it trained.
        message: of the conflict, where it did not.
    """

    choice: Choice | None
    run: Run | None = None
    message: str = ""


def try_pair(pair: tuple[str, str], cache: Path) -> list[Outcome]:
    """Run a pair as it is, then with every choice that the message of a conflict should offer."""
    found = []
    for choice in (None, *REASONS[pair].choices):
        layers = [choice.sections] if choice else []
        try:
            run = measure(assemble_together(pair, cache, *layers))
        except ConflictError as error:
            found.append(Outcome(choice, message=str(error)))
        else:
            found.append(Outcome(choice, run))
    return found


def describe_pair(pair: tuple[str, str], outcomes: Iterable[Outcome]) -> str:
    """Return a pair's section."""
    parts = [f"### {', '.join(pair)}"]
    for outcome in outcomes:
        choice = outcome.choice
        why, said = REASONS[pair].why, ""
        if choice is not None:
            why, said = choice.why, f"With `{choice.flag}` it trains. "
        if outcome.run is None:
            refused = f"With `{choice.flag}` refused, too" if choice else "Refused"
            parts += [f"{refused}:", _wrapped(outcome.message, "> "), _wrapped(why)]
        else:
            parts += [_wrapped(said + why), _listed(outcome.run)]
    return "\n\n".join(parts)


def _listed(run: Run) -> str:
    return "\n".join(_wrapped(f"{about}: {found}", "- ", "  ") for about, found in facts(run))


def _wrapped(text: str, first: str = "", later: str | None = None) -> str:
    return textwrap.fill(
        text,
        110,
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def describe_alone(runs: Iterable[Run]) -> str:
    """Return the table of what every plugin does alone."""
    rows = [("plugin", "slots", "updates", "loss terms", "deployed")]
    rows.append(("---",) * len(rows[0]))
    for run in runs:
        (name,), told = run.names, dict(facts(run))
        claims = run.assembly.plugins[name].claims
        terms = (r.term for r in run.reach if r.weight and r.term.startswith(f"{name}/"))
        slots = ", ".join(f"`{claim}`" for claim in claims) or "none"
        rows.append((f"`{name}`", slots, told["updates"], _names(terms), told["deployed"]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def try_further(name: str, paper: str, cache: Path) -> str:
    """Return the line on a further baseline beside a paper, after two steps of both."""
    try:
        run = measure(assemble_together([name, paper], cache, FURTHER[name]))
    except ReidError as error:
        told = f"refused: {error}"
    else:
        told = f"trains; {', '.join(f'{about}: {found}' for about, found in _short(run))}"
    return _wrapped(f"`{name}`, `{paper}`: {told}", "- ", "  ")


def _short(run: Run) -> Iterator[tuple[str, str]]:
    wanted = ("the encoder learns from", "identities", "deployed")
    return ((about, found) for about, found in facts(run) if about in wanted)


def further(cache: Path, names: Iterable[str] = FURTHER) -> str:
    """Return the lines on further baselines."""
    return "\n".join(try_further(name, paper, cache) for name in names for paper in PAPERS)


def assemble_baselines(names: Iterable[str], cache: Path) -> Assembly:
    """Assemble baselines on tiny data.

    Raises:
        ReidError: they do not go together.
    """
    layers = [FURTHER[name] for name in names if name in FURTHER]
    if ANY_ENCODER in names and len([*names]) > 1:
        own = {"plugins": FURTHER[ANY_ENCODER]["plugins"]}
        layers = [own if layer is FURTHER[ANY_ENCODER] else layer for layer in layers]
    return assemble_together(names, cache, *layers)


def refusal(names: Iterable[str], cache: Path) -> str:
    """Return why baselines do not go together, or nothing."""
    try:
        assemble_baselines(names, cache)
    except ReidError as error:
        return str(error)
    return ""


def groups_of(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return groups in which every two are one of the pairs, and that hold every pair.

    Args:
        pairs: in name order.
    """
    go, left = {frozenset(pair) for pair in pairs}, [*pairs]
    names, groups = sorted({name for pair in left for name in pair}), []
    while left:
        group = [*left[0]]
        while True:
            fresh = {
                name: sum({name, one} in map(set, left) for one in group)
                for name in names
                if name not in group and all(frozenset({name, one}) in go for one in group)
            }
            if not any(fresh.values()):
                break
            group.append(max(fresh, key=lambda name: fresh[name]))
        groups.append(tuple(sorted(group)))
        left = [pair for pair in left if not {*pair} <= {*group}]
    return groups


def beside(cache: Path) -> str:
    """Return the section on baselines beside each other, after two steps of every group."""
    refused = {pair: why for pair in combinations(BASELINES, 2) if (why := refusal(pair, cache))}
    go = [pair for pair in combinations(BASELINES, 2) if pair not in refused]
    groups = groups_of(go)
    for group in groups:
        Recorder(assemble_baselines(group, cache)).fit()
    lines = [["", *(f"`{name}`" for name in BASELINES[1:])], ["---"] * len(BASELINES)]
    for row in BASELINES[:-1]:
        cells = ("" if one <= row else "no" if (row, one) in refused else "trains"
                 for one in BASELINES[1:])  # fmt: skip
        lines.append([f"`{row}`", *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = "\n".join(
        _wrapped(f"`{one}`, `{other}`: {why}", "- ", "  ") for (one, other), why in refused.items()
    )
    listed = "\n".join(_wrapped(", ".join(f"`{n}`" for n in group), "- ", "  ") for group in groups)
    parts = (_wrapped(EACH_OTHER), table, _wrapped(AT_ONCE), listed, _wrapped(REFUSED), told)
    return "\n\n".join(parts)


def assemble_all(number: int, cache: Path, *layers: Sections, reverse: bool = False) -> Assembly:
    """Assemble all that go together in one of the ways."""
    names, choices = TOGETHER[number]
    sections = (choice.sections for choice in choices)
    there = set(names) & set(NAMES)
    return assemble_together(there, cache, *sections, *layers, reverse=reverse)


def describe_together(number: int, run: Run) -> str:
    """Return the section of all that go together in one of the ways."""
    flags = "".join(f" {choice.flag}" for choice in TOGETHER[number][1])
    command = f"reid run --plugins {','.join(run.names)}{flags}"
    return f"```sh\n{command}\n```\n\n{_listed(run)}"


def pairs() -> list[tuple[str, str]]:
    """Return all pairs of the plugins, in name order."""
    return list(combinations(NAMES, 2))


def matrix() -> str:
    """Return the table of all pairs; every cell points to its section."""
    lines = [["", *(f"`{name}`" for name in NAMES[1:])], ["---"] * len(NAMES)]
    for row in NAMES[:-1]:
        cells = [f"`{row}`"]
        for column in NAMES[1:]:
            choices = REASONS[row, column].choices if row < column else ()
            flag = "set" if choices and choices[0].flag.startswith("-s") else "choose"
            word = flag if choices else "trains"
            cells.append(f"[{word}](#{row}-{column})" if row < column else "")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


INTRODUCTION = (
    "Papers compose: a run takes several plugins that know nothing of each other. This page shows "
    "for every pair what happens, why it makes sense, and what is to be said where it does not go "
    "by itself. Everything but the reasons is measured: every pair is built on the toy data, the "
    "gradient of every loss term is followed to the parameters that it trains, and two steps are "
    "trained.",
    "`reid plugins check a,b` tells the same of any combination, also of plugins that are not "
    "shown here, and `conformance_suite` puts a plugin beside one probe plugin of every shape.",
)

LEGEND = (
    "**trains**: as it is. **set**: after the setting that the message names. **choose**: both "
    "want a role that only one can fill, and the message says how to choose."
)

FURTHER_HEADING = "## Further baselines beside the papers"

BESIDE = (
    "Further baselines, each with the five papers: whether both train as they are, or what the "
    "message says."
)

BESIDE_HEADING = "## Baselines beside each other"

EACH_OTHER = (
    "All baselines in pairs, without a further setting. `tracklets` is tried on tracklets, the "
    "others on single images; who brings an encoder has it."
)

AT_ONCE = (
    "Two steps were trained of each of these groups, all at once; every pair that trains is in one "
    "of them."
)

REFUSED = "What the message says of the others:"

READING = (
    "Read a section so: *updates* in the order of a step; *the encoder learns from* the terms with "
    "a gradient to it; *across plugins* a term of one that trains parts of the other beside the "
    "encoder, which all share; *generated images* how the images that one makes come in, whose "
    "labels they have, and which terms see them, a term `x@images` being the identity criterion's; "
    "*deployed* what describes a person at test. Terms of weight 0 are left out; `*` stands for a "
    "number."
)


def page(cache: Path) -> str:
    """Return the whole page."""
    parts = ["# Composition", NOTE, *(_wrapped(text) for text in INTRODUCTION)]
    alone = (measure(assemble_together([name], cache)) for name in NAMES)
    parts += ["## Alone", describe_alone(alone)]
    parts += ["## In pairs", _wrapped(LEGEND), matrix(), _wrapped(READING)]
    parts += [describe_pair(pair, try_pair(pair, cache)) for pair in pairs()]
    parts += [FURTHER_HEADING, _wrapped(BESIDE), further(cache)]
    parts += [BESIDE_HEADING, beside(cache)]
    parts += ["## All at once"]
    for number in range(len(TOGETHER)):
        parts.append(describe_together(number, measure(assemble_all(number, cache))))
    return "\n\n".join(parts) + "\n"


def _replaced(text: str, heading: str, following: Iterable[str], made: str) -> str:
    """Return the page with another section of a heading, before the first of those that follow."""
    ends = min(text.index(f"\n{next_one}\n") for next_one in following if next_one in text) + 1
    begins = text.index(f"\n{heading}\n") + 1 if f"\n{heading}\n" in text else ends
    return f"{text[:begins]}{made}{text[ends:]}"


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        if sys.argv[1:] in (["further"], ["beside"]):
            text, after = PAGE.read_text("utf-8"), "## All at once"
            if sys.argv[1] == "further":
                made = f"{FURTHER_HEADING}\n\n{_wrapped(BESIDE)}\n\n{further(Path(folder))}\n\n"
                text = _replaced(text, FURTHER_HEADING, (BESIDE_HEADING, after), made)
            else:
                made = f"{BESIDE_HEADING}\n\n{beside(Path(folder))}\n\n"
                text = _replaced(text, BESIDE_HEADING, (after,), made)
            PAGE.write_text(text, encoding="utf-8")
        else:
            PAGE.write_text(page(Path(folder)), encoding="utf-8")
    print(PAGE.name)
