"""Commands over a run's folder that may be damaged, or a stranger's: check, repair."""

from __future__ import annotations

from typing import Annotated

import typer

from evosearch.cli.app import Plugins, Run, load_plugins, print_lines


def check(directory: Run, plugin: Plugins = None) -> None:
    """Read all of a run against its checksums; changes nothing.

    Also against itself. Exit code 1 if something is not sound.
    """
    from evosearch.config import read_run_of
    from evosearch.plugin import PluginError, check_given
    from evosearch.search.soundness import Finding, examine

    plugins = load_plugins(plugin)
    window, readable = None, []
    try:
        window = read_run_of(directory, lambda recorded: check_given(recorded, plugins, directory))[0].window
    except PluginError as error:
        readable = [Finding("configuration", None, f"not read: {error}")]
    except ValueError as error:  # what the checksums say of it comes first
        readable = [Finding("configuration", False, str(error))]
    found = examine(directory, window)
    if all(finding.sound is not False for finding in found):
        found += readable
    words = {True: "sound", False: "NOT SOUND", None: "not known"}
    print_lines([f"{finding.name:17} {words[finding.sound]:10} {' '.join(finding.text.split())}" for finding in found])
    broken = sum(finding.sound is False for finding in found)
    unknown = sum(finding.sound is None for finding in found)
    beside = f"; {unknown} not known" if unknown else ""
    if broken:
        print_lines([f"\n{broken} of {len(found)} not sound{beside}. What can be done: evosearch repair {directory} --dry-run"])
        raise typer.Exit(1)
    print_lines([f"\nsound{beside}"])


def repair(
    directory: Run, dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False
) -> None:  # fmt: skip
    """Mend what can be mended of a damaged run.

    Says what cannot be. Exit code 1 if something is left.
    """
    from evosearch.search import repair as repairing

    done, left = repairing.repair(directory, dry_run)
    would = "would be: " if dry_run else ""
    print_lines([f"{would}{line}" for line in done])
    print_lines([f"cannot be repaired: {line}" for line in left])
    if done and not dry_run:
        print_lines([f"what was there before is kept in {directory}/damaged"])
    if not done and not left:
        print_lines(["nothing to repair"])
    if left:
        raise typer.Exit(1)
