"""``reid data check``: look for what is wrong with a data set before results rest on it."""

from __future__ import annotations

import sys
from pathlib import Path

import click


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
    from reid_core.cli.progress import Screen
    from reid_core.config import cache_folder
    from reid_core.contract.samples import DataRequest, DataSet
    from reid_core.data.counts import check_labels as check_labels_of
    from reid_core.data.doctor import Finding, check_labels, verdict
    from reid_core.data.file_check import check_files, count_files, read_files
    from reid_core.plugins.providers import Providers, check_request, parse_data_name
    from reid_core.runs.resolve import resolve

    providers = Providers(resolve().calls)
    title, variant, size = parse_data_name(name)
    provider = providers.dataset(title)
    request = DataRequest(title, variant, size, data_root, cache_folder())
    check_request(provider, request)
    loaded = provider.load(request)
    check_labels_of(loaded)
    dataset = loaded if isinstance(loaded, DataSet) else DataSet(name, loaded)
    asked = [providers.protocol(p) for p in (protocols or dataset.protocols)]

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
