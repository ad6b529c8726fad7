"""Commands about a model of one's own: slots, swap."""

from __future__ import annotations

from typing import Annotated

import typer

from evosearch.cli.app import Plugins, load_plugins, print_lines, width

Factory = Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="A function that makes the model, of an installed module or a --plugin; it is run.")]


def slots(model: Factory, plugin: Plugins = None) -> None:
    """List what can be swapped in a model of your own."""
    load_plugins(plugin)
    from evosearch.delivery.swap import listing

    print_lines(listing.slots(listing.model_of(model), width()))


def swap(
    model: Factory,
    rule: Annotated[list[str], typer.Option(metavar="WHAT=FORMULA", help="nn.ReLU=gelu, /^layer1/=silu, nn.BatchNorm2d+nn.ReLU=evonorm_s0; may be repeated.")],
    match: Annotated[bool, typer.Option("--match", help="Fit a * f(b * x) + c to each activation that goes.")] = False,
    functional: Annotated[str, typer.Option(help="report, or fx: rewrite functional calls.")] = "report",
    plugin: Plugins = None,
) -> None:
    """Show what evosearch.swap would replace and leave."""
    load_plugins(plugin)
    from evosearch.delivery.swap import listing
    from evosearch.delivery.swap.swap import swap as run

    made = listing.model_of(model)
    found = run(made, listing.rules_of(rule, made), match=match, functional=functional, dry_run=True)
    print_lines(found.table(width()))
    print_lines(["a model lives in Python: evosearch.swap(model, rules) returns it with the new layers (docs/swap.md)"])
