"""``reid data show`` and ``reid data check``: look at a data set before results rest on it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reid_core.outputs import PICTURE_SUFFIXES, checked_output


@click.command("check")
@click.argument("name")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Protocols to check.")
@click.option("--no-files", is_flag=True, help="Look at names and labels only.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads that decode images.")
def check(
    name: str, data_root: Path | None, protocols: tuple[str, ...], no_files: bool, threads: int
) -> None:
    """Check a copy of a data set before results rest on it.

    Counts are compared with the official ones; cameras, people in training and in test, the queries
    that every protocol can answer, and images that are there twice are looked at.

    NAME is NAME[/VARIANT][:SIZE]; see `reid data list`. Every file is decoded once. The last line
    is the verdict; the exit code is 1 where there is a problem.
    """
    from reid_benchmarks.doctor.files import check_files, count_files, read_files
    from reid_benchmarks.doctor.labels import Finding, check_labels, verdict
    from reid_core import DataSet, find_protocol
    from reid_core.cli.progress import Screen
    from reid_core.data.counts import check_labels as check_labels_of
    from reid_core.runs.finding import find_provider

    provider, request = find_provider(name, data_root)
    loaded = provider.load(request)
    check_labels_of(loaded)
    dataset = loaded if isinstance(loaded, DataSet) else DataSet(name, loaded)
    asked = [find_protocol(p) for p in (protocols or dataset.protocols)]

    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        click.echo(f"{finding.level:<8} {finding.topic:<11} {finding.text}")

    if dataset.notice:
        tell(Finding("notice", dataset.notice, "note"))
    expected = provider.expected(request) if provider.expected else {}
    for finding in check_labels(dataset, expected, asked):
        tell(finding)
    if not no_files:
        with Screen().bar("files", count_files(dataset)) as advance:
            reading = read_files(dataset, threads, advance)
        for finding in check_files(dataset, reading, asked if dataset.query else ()):
            tell(finding)
    click.echo(verdict(dataset.name, findings))
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


@click.command("show")
@click.argument("name")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("contact_sheet.png"))
@click.option("--identities", type=click.IntRange(1), default=6, help="People to show.")
@click.option("--images", type=click.IntRange(1), default=6, help="Images of each.")
def show(name: str, data_root: Path | None, out: Path, identities: int, images: int) -> None:
    """Print the counts of a data set and draw a contact sheet with its fields.

    NAME is NAME[/VARIANT][:SIZE]; see `reid data list`.
    """
    from reid_benchmarks.doctor.sheet import contact_sheet
    from reid_core import open_dataset

    checked_output(out, PICTURE_SUFFIXES)
    dataset = open_dataset(name, data_root)
    if dataset.notice:
        click.echo(dataset.notice)
    splits = (
        ("train", dataset.train.samples),
        ("query", dataset.query),
        ("gallery", dataset.gallery),
    )
    for split, samples in splits:
        people = len({s.pid for s in samples if s.pid >= 0})
        cameras = len({s.camid for s in samples})
        outfits = len({s.clothes for s in samples if s.clothes >= 0})
        worn = f", {outfits} outfits" if outfits else ""
        click.echo(f"{split}: {len(samples)} images, {people} people, {cameras} cameras{worn}")
    click.echo(f"fields: {', '.join(sorted(dataset.train.fields)) or 'none'}")
    click.echo(f"protocols: {', '.join(dataset.protocols)}")
    click.echo(f"contact sheet: {contact_sheet(dataset, out, identities, images)}")
