"""`workbench bundle`: finished studies as one file, made where they were computed, opened where they are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.errors import WorkbenchError, shown

if TYPE_CHECKING:
    from workbench.bundle.archive import Report
    from workbench.bundle.manifest import Manifest
    from workbench.jobs.job import Job

bundle = typer.Typer(
    name="bundle",
    help="Carry finished studies between machines.\n\nOne file with results, cells and digests.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
MaxSize = Annotated[str | None, typer.Option("--max-size", help="Most that the files may take when unpacked [4GiB].")]


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    for command, name in ((create_bundle, "create"), (open_file, "open"), (show, "show")):
        bundle.command(name)(command)
    app.add_typer(bundle)


def create_bundle(
    out: Annotated[Path, typer.Argument(help="The bundle to write, a .zip.")],
    job: Annotated[
        list[str] | None, typer.Option("--job", help="Id of a finished job; repeatable [the last finished one].")
    ] = None,
    with_statistics: Annotated[
        bool, typer.Option("--with-statistics", help="Also the calibration statistics of the models; large.")
    ] = False,
    as_json: words.AsJson = False,
    quiet: words.Quiet = False,
) -> None:
    """Write the results of finished jobs into one file.

    Jobs of the app and of commands; `workbench jobs` lists them.
    """
    from workbench.bundle.create import create
    from workbench.jobs.client import Client

    if out.suffix != ".zip" or not out.parent.is_dir():
        raise WorkbenchError(f"the bundle {shown(str(out))} needs the ending .zip and a folder that is there")
    client = Client()
    chosen = [client.job(one) for one in job] if job else [_last_finished(client.recent(500))]
    _complete(chosen, client.shelf, quiet)
    statistics = client.cache / "statistics" if with_statistics else None
    made = create(out, chosen, store=client.store, shelf=client.shelf, statistics=statistics)
    facts = {"out": str(out), "bytes": made.bytes, "cells": made.cells, **_facts(made.manifest)}
    _tell(facts, as_json, f"{out}: {made.bytes:,} bytes, {made.cells} cells", made.manifest)


def open_file(
    file: Annotated[Path, typer.Argument(help="The bundle.")],
    max_size: MaxSize = None,
    as_json: words.AsJson = False,
    quiet: words.Quiet = False,
) -> None:
    """Check a bundle and take it in.

    Its studies are then finished jobs here, and the app shows them.
    """
    from workbench.bundle.opening import open_bundle
    from workbench.jobs.client import Client

    client = Client()
    with _Bar(quiet) as report:
        opened = open_bundle(file, store=client.store, shelf=client.shelf, limit=_limit(max_size), report=report)
    if opened.other_program is not None:
        print(f"workbench: made by program {opened.other_program}; this is another one", file=sys.stderr)
    for model in opened.away:
        print(
            f"workbench: model {shown(model)} is not on this machine: the app shows what was carried, and computes "
            "nothing new about it",
            file=sys.stderr,
        )
    counts = {"fresh": opened.fresh, "cells": opened.cells, "away": list(opened.away), "keys": list(opened.keys)}
    told = f"opened: {opened.fresh} new results, {opened.cells} new cells; `workbench app`, page Jobs, shows them"
    _tell({**counts, **_facts(opened.manifest)}, as_json, told, opened.manifest)


def show(
    file: Annotated[Path, typer.Argument(help="The bundle.")], max_size: MaxSize = None, as_json: words.AsJson = False
) -> None:
    """What a bundle holds, without opening it."""
    from workbench.bundle.opening import look_into

    manifest = look_into(file, _limit(max_size))
    told = f"made {manifest.made} by program {manifest.program}, {manifest.total:,} bytes unpacked"
    _tell(_facts(manifest), as_json, told, manifest)


def _last_finished(jobs: list[Job]) -> Job:
    found = next((one for one in jobs if one.state == "done"), None)
    if found is None:
        raise WorkbenchError("there is no finished job to bundle; `workbench jobs list` shows those there are")
    return found


def _complete(jobs: list[Job], shelf: Any, quiet: bool) -> None:
    """Compute the sizes of models for which nobody has asked yet: pages cannot show a study without them.

    Half of the free memory is the limit: a model that is larger is opened as shapes alone.
    """
    import psutil

    from workbench.cli.running import Run
    from workbench.jobs.keys import study_key

    modest = str(psutil.virtual_memory().available // 2)

    for model in dict.fromkeys(one.spec["model"] for one in jobs):
        asked = {"model": model, "allow_download": False}
        if shelf.folder_of(study_key("inspect", asked)) is not None:
            continue
        try:
            Run(quiet=quiet, memory_limit=modest).study("inspect", asked)
        except WorkbenchError as error:
            print(f"workbench: the sizes of the model are not in the bundle: {error}", file=sys.stderr)


def _limit(text: str | None) -> int:
    from workbench.bundle.opening import SIZE_LIMIT
    from workbench.sizes import parse_size

    return SIZE_LIMIT if text is None else parse_size(text, "--max-size")


def _facts(manifest: Manifest) -> dict[str, Any]:
    """What `--json` says of a bundle."""
    studies = [
        {"kind": one.kind, "key": one.key, "model": one.spec["model"], "companion": one.companion}
        for one in manifest.studies
    ]
    known = {"program": manifest.program, "study_version": manifest.study_version, "made": manifest.made}
    return {**known, "studies": studies, "files": len(manifest.files), "unpacked_bytes": manifest.total}


def _tell(facts: dict[str, Any], as_json: bool, sentence: str, manifest: Manifest) -> None:
    from workbench.results import dumps

    if as_json:
        print(dumps(facts))
        return
    print(sentence)
    for one in manifest.studies:
        print(f"  {one.kind:16} {one.spec['model']}  {one.key[:12]}{'  (goes along)' if one.companion else ''}")


class _Bar:
    """A bar on stderr for the bytes that are unpacked."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> Report | None:
        """The report to hand on; None when nothing is to be shown."""
        if self.quiet:
            return None
        from tqdm import tqdm

        self._bar = tqdm(file=sys.stderr, unit="B", unit_scale=True, leave=False, desc="checking", disable=None)
        return self._show

    def _show(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(self, *failure: Any) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
