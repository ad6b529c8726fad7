"""Every format of many layers, read again in a fresh process and compared with what was judged: random graphs of the search spaces, and the library.

    python scripts/check_exports.py [--graphs 200] [--whole 60] [--seed 0] [--formats py,ts,...] [--no-library] [--batch 50]

Graphs are drawn in turn from every file of search_spaces/. `--whole` of all layers, evenly spread, are also exported to .pt2 and ONNX, which
take a second each. Prints a table of figures; rc 1 if a file does not do what the layer does and evosearch/delivery/formats/exceptions.toml
does not say why. Needs torch, and onnx, onnxruntime, onnxscript and jax for their formats.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evosearch.config import load
from evosearch.delivery.export import ExportError, class_name, function_name, make_formats
from evosearch.delivery.formats import FORMATS
from evosearch.delivery.formats.format import PROBE_FEATURES, Format, Layer, counts_channels, needs_features
from evosearch.delivery.formats.verification import Verified, verify
from evosearch.delivery.source import whole
from evosearch.language.graph import Graph, with_affine
from evosearch.language.library import library

SPACES = Path(__file__).parent.parent / "search_spaces"
SLOW = ("pt2", "onnx")


@dataclass
class Tally:
    """What was found of one format."""

    graphs: int = 0
    cases: int = 0
    largest: float = 0.0
    exceptions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    absent: Counter[str] = field(default_factory=Counter)


def drawn(count: int, seed: int) -> Iterator[tuple[str, Graph, str]]:
    """Random graphs in turn from every space: where from, the graph, how it tracks variances. Those that are finite nowhere are drawn again."""
    spaces = {path.stem: load(str(path)).space.space() for path in sorted(SPACES.glob("*.yaml"))}
    rng = random.Random(seed)
    seen: set[Graph] = set()
    for i in range(count):
        name = list(spaces)[i % len(spaces)]
        for _ in range(100):
            graph = rng.choice(spaces[name].sample(rng).sites)
            if graph not in seen:
                break
        seen.add(graph)
        yield name, graph, "unbiased"


def published() -> Iterator[tuple[str, Graph, str]]:
    for name, known in library().items():
        yield f"library {name}", with_affine(known.graph) if known.affine else known.graph, known.tracked_variance


def layer_of(graph: Graph, tracked: str, number: int) -> Layer:
    name = f"layer{number}"
    kind = class_name(name)
    features = PROBE_FEATURES if needs_features(graph) or counts_channels(graph) else None
    return Layer(graph, name, kind, function_name(name, kind), features, whole(graph, kind, function_name(name, kind), tracked))


def check(named: list[tuple[str, Layer]], wanted: list[list[Format]], tallies: dict[str, Tally], limit: float) -> None:
    """Makes and compares one batch."""
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for (_, layer), formats in zip(named, wanted, strict=True):
            done, absent = make_formats(layer, Path(folder), formats, by_name=False)
            made.append(done)
            for name, reason in absent.items():
                tallies[name].absent[reason] += 1
        found = verify([(layer, Path(folder)) for _, layer in named], made, limit)
    for (where, layer), verdicts, done in zip(named, found, made, strict=True):
        for name in done:
            tallies[name].graphs += 1
        for name, one in verdicts.items():
            add(tallies[name], one)
            for failure in one.failures:
                print(f"{name} FAILED {where}: {layer.graph}\n      {failure}", flush=True)


def add(tally: Tally, one: Verified) -> None:
    tally.cases += len(one.cases)
    tally.largest = max(tally.largest, one.largest)
    tally.exceptions.update(row["reason"] for row in one.exceptions)
    tally.failures += one.failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=200)
    parser.add_argument("--whole", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--no-library", action="store_true")
    parser.add_argument("--batch", type=int, default=50)
    options = parser.parse_args()
    start = time.perf_counter()
    chosen = [FORMATS[name] for name in options.formats.split(",")]
    rows = [*drawn(options.graphs, options.seed), *([] if options.no_library else published())]
    every = {round(i * (len(rows) - 1) / max(1, options.whole - 1)) for i in range(options.whole)}
    tallies = {one.name: Tally() for one in chosen}
    refused: Counter[str] = Counter()
    for first in range(0, len(rows), options.batch):
        batch, wanted = [], []
        for i, (where, graph, tracked) in list(enumerate(rows))[first : first + options.batch]:
            try:
                batch.append((where, layer_of(graph, tracked, i)))
            except ExportError as error:
                refused[str(error)[:80]] += 1
                continue
            wanted.append([one for one in chosen if one.name not in SLOW or i in every])
        check(batch, wanted, tallies, 120.0 * options.batch)
        print(f"{min(first + options.batch, len(rows))}/{len(rows)} layers, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(f"{options.graphs} random graphs of {len(list(SPACES.glob('*.yaml')))} spaces, seed {options.seed}; {len(rows) - options.graphs} of the library")
    print("| format | layers | cases | largest error | exceptions met | failures | absent |\n|---|---|---|---|---|---|---|")
    for name, one in tallies.items():
        met, absent = sum(one.exceptions.values()), sum(one.absent.values())
        print(f"| {name} | {one.graphs} | {one.cases} | {one.largest:.1e} | {met} | {len(one.failures)} | {absent} |")
    for name, one in tallies.items():
        for reason, count in one.exceptions.most_common():
            print(f"  {name}: {count} times: {reason}")
        for reason, count in one.absent.most_common():
            print(f"  {name}: {count} absent: {reason}")
    for reason, count in refused.items():
        print(f"  refused {count}: {reason}")
    return int(any(one.failures for one in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
