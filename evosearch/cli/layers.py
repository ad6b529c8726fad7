"""Commands about layers: export, explain, operators, library, gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from evosearch.cli.app import Models, Plugins, load_plugins, print_lines, width

if TYPE_CHECKING:
    from evosearch.delivery.papers.origin import Origin
    from evosearch.language.candidate import Candidate
    from evosearch.language.graph import Graph
    from evosearch.plugin import PlugIn


def export(
    directory: Annotated[Optional[Path], typer.Argument(help="The run's folder (not with --formula).")] = None,
    to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("my_layer"),
    best: Annotated[bool, typer.Option("--best", help="The pick of the run.")] = False,
    id_: Annotated[Optional[str], typer.Option("--id", help="The function whose canonical id starts so (the table shows ids).")] = None,
    formula: Annotated[Optional[str], typer.Option(help="Any formula, or the name of a known layer.")] = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the layer; the folder's name by default.")] = None,
    features: Annotated[Optional[int], typer.Option(help="Channels, where a file holds their number: a layer with a value per channel, or groups.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another formula in the folder.")] = False,
    formats: Annotated[Optional[str], typer.Option(help="Beside NAME.py; by default ts,pt2,onnx,txt as can be made; also numpy,jax.")] = None,
    simplify: Annotated[bool, typer.Option("--simplify", help="Export sympy's simplified form, where it computes the same.")] = False,
    pair: Annotated[Optional[str], typer.Option(help="Of a network: the pair of the run on which it is trained; the first by default.")] = None,
    plugin: Plugins = None,
    model: Models = None,
) -> None:
    """Write a layer or a trained network as files for torch alone."""
    chosen = [option for option in (best, id_, formula) if option]
    if len(chosen) != 1 or (formula is None) == (directory is None):
        raise ValueError("export takes a run with --best or --id ID, or no run and --formula TEXT")
    from evosearch.delivery.place import check_place

    check_place(to)
    plugins = load_plugins(plugin)
    tracked, origin = "unbiased", None
    if formula is not None:
        if ":=" in formula:
            raise ValueError("a network leaves with trained weights, and so from the run that found it: export RUN --best, or --id ID")
        graph, tracked = _layer(formula)
    else:
        candidate, origin = _found(directory, id_, plugins)  # type: ignore[arg-type]
        if not candidate.is_layer:
            if features is not None or name is not None or simplify:
                raise ValueError("--features, --name and --simplify are of layers; a network leaves as the class Network of model.py: drop them")
            _export_network(directory, candidate, to, pair, origin.verdict, overwrite, plugins, model or (), _names(formats))  # type: ignore[arg-type]
            return
        graph = candidate.graph
    if pair is not None or model:
        raise ValueError("--pair and --model are of a network, which is trained before it leaves; this is a layer: drop them")
    from evosearch.delivery.export import export as write  # torch: after what can be refused without it

    done = write(
        graph, to, name or to.resolve().name, features=features, tracked_variance=tracked, origin=origin, overwrite=overwrite,
        formats=_names(formats), simplify=simplify,
    )  # fmt: skip
    for path in done.files:
        print_lines([str(path)])
    for what, reason in done.absent.items():
        print_lines([f"no {what} file: {reason}"])
    if done.simplification is not None:
        said = f"sympy's form of `{graph}`" if done.simplification.accepted else "not simplified"
        print_lines([f"{said}: {done.simplification.note}"])
    met = sum(len(found.exceptions) for found in done.verified.values())
    print_lines([f"`{done.graph}` as {to}/: every file was loaded in a fresh process and gives the values and gradients that were evaluated"])
    if met:
        print_lines([f"but for {met} results at the edges of a format's own arithmetic, in verify.json with their reasons"])
    if origin is not None:
        print_lines([f"verdict: {origin.verdict}"])


def _names(formats: str | None) -> list[str] | None:
    return None if formats is None else [name.strip() for name in formats.split(",") if name.strip()]


def _export_network(
    directory: Path, candidate: Candidate, to: Path, pair: str | None, verdict: str, overwrite: bool, plugins: Sequence[PlugIn], models: Sequence[str],
    formats: list[str] | None,
) -> None:  # fmt: skip
    """Trains the network once as the run did, writes it, and says what it scored then."""
    from evosearch.delivery.network import export_network, training_of
    from evosearch.judging.objectives import unit
    from evosearch.run import trusted

    config = trusted(directory, plugins, models)
    training = training_of(directory, config, str(candidate), pair)
    found = export_network(candidate, to, training, verdict=verdict, overwrite=overwrite, formats=formats)
    for path in found.files:
        print_lines([str(path)])
    for what, reason in found.absent.items():
        print_lines([f"no {what} file: {reason}"])
    scores = f"{found.validation:.4g} on validation, {found.test:.4g} on test [{unit(training.pair)}]"
    print_lines([f"`{candidate}` as {to}/: trained on {training.pair}, seed {training.seed}, {training.steps} steps: {scores}"])
    print("every file was loaded in a fresh process, model.py with torch alone, and gives the answers and slopes of the network that was trained")
    print_lines([f"verdict: {verdict}"])


def _layer_name(text: str) -> str | None:
    """The name of the known layer that the text means; None for a formula. Raises ValueError for a name that is neither."""
    from evosearch.language.library import known, library
    from evosearch.language.operators import OPERATORS, STATISTICS

    text = text.strip()
    if not text.isidentifier() or text in ("x", "y") or (text in (*OPERATORS, *STATISTICS) and text not in library()):
        return None
    return known(text).name


def _layer(text: str) -> tuple[Graph, str]:
    """The graph of a formula or of a known layer, its affine part included; and how it tracks variances."""
    from evosearch.language.formula import parse
    from evosearch.language.graph import with_affine
    from evosearch.language.library import known

    name = _layer_name(text)
    if name is None:
        return parse(text), "unbiased"
    layer = known(name)
    return with_affine(layer.graph) if layer.affine else layer.graph, layer.tracked_variance


def _found(directory: Path, wanted: str | None, plugins: Sequence[PlugIn]) -> tuple[Candidate, Origin]:
    """The pick, or the function whose id starts with `wanted`; and where it is from, with what is known of it on unseen pairs."""
    from evosearch.delivery.papers.origin import origin_of
    from evosearch.delivery.summary import read
    from evosearch.language.candidate import parse_candidate
    from evosearch.run import stored

    config, environment = stored(directory, plugins)
    reading = read(directory, config)
    if wanted is None:
        if reading.pick is None:
            advice = "search longer or wider" if reading.finished else f"let it run on with `evosearch resume {directory}`"
            raise ValueError(f"{directory} has no fully trained function; {advice}")
        candidate = reading.pick.candidate
    else:
        texts = {r["canonical_id"]: str(r["candidate"]) for r in reading.rows if r["canonical_id"].startswith(wanted.lower())}
        if len(texts) != 1:
            raise ValueError(f"--id needs the start of exactly one canonical id; `{wanted[:70]}` fits {len(texts)}")
        (candidate,) = texts.values()
    return parse_candidate(candidate), origin_of(reading, environment, candidate)


def explain(
    formula: Annotated[str, typer.Argument(help="A formula, e.g. 'x * sigmoid(x)', or the name of a known layer.")],
    plugin: Plugins = None,
) -> None:
    """Say all that is known of a formula or a layer."""
    from evosearch.delivery.layout import prose
    from evosearch.language.formula import parse
    from evosearch.language.library import known
    from evosearch.meaning.explain import explain as lines

    load_plugins(plugin)
    if ":=" in formula:
        raise ValueError("explain takes one layer; of a network give the formula of one of its slots")
    name = _layer_name(formula)
    text = known(name).formula if name else formula
    named = [("library", f"{name}: {text}  [{known(name).source}]")] if name else []
    for label, line in [*named, *lines(parse(text))]:
        print_lines(prose(f"{label:<12} {line}", width(), 13))


def operators(latex: Annotated[bool, typer.Option("--latex", help="LaTeX in place of the derivative.")] = False, plugin: Plugins = None) -> None:
    """List operators: cost, kinks, derivative."""
    from evosearch.delivery import listing

    load_plugins(plugin)
    print_lines(listing.operators(width(), latex))


def library(
    name: Annotated[Optional[str], typer.Argument(help="One layer; all of them without.")] = None,
    unsayable: Annotated[bool, typer.Option("--unsayable", help="Published layers that are no formula, and why.")] = False,
    plugin: Plugins = None,
) -> None:
    """List known layers as formulas, or show one."""
    from evosearch.delivery import listing

    if name and unsayable:
        raise ValueError(f"library takes a name or --unsayable, not both; drop one (received `{name[:40]}`)")
    load_plugins(plugin)
    print_lines(listing.cannot_say(width()) if unsayable else listing.layer(name, width()) if name else listing.library(width()))


def gallery(to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("gallery")) -> None:
    """Show every known layer on one offline page."""
    from evosearch.delivery.gallery import write_gallery

    print_lines([str(write_gallery(to))])
