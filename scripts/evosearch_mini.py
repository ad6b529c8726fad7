"""The idea of evosearch in one file: grow formulas, reject the hopeless, train the rest, evolve, log, resume, compare.

    python scripts/evosearch_mini.py --out runs/mini.jsonl       # under 30 s on 2 cores; typed again it resumes

A candidate is a formula of nested lists, its JSON text is its identity. Ask k sees exactly the results up to k - WINDOW, and its
randomness comes from (seed, k): the search is the same with any number of workers, interrupted or not. The log is the checkpoint.
"""

import argparse
import json
import math
import random
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNARY = {"neg": torch.neg, "abs": torch.abs, "square": torch.square, "exp": torch.exp, "sin": torch.sin, "cos": torch.cos,
         "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "relu": F.relu, "gelu": F.gelu, "silu": F.silu}  # fmt: skip
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "max": torch.maximum, "min": torch.minimum}
BASELINES = ["x", ["relu", "x"], ["gelu", "x"], ["silu", "x"], ["tanh", "x"], ["sin", "x"]]
WINDOW, POPULATION, RATES, STEPS = 8, 16, (0.01, 0.03), 100


def grow(rng: random.Random, depth: int) -> Any:
    """A random formula of at most `depth` operators on a path."""
    if depth == 0 or rng.random() < 0.2:
        return "x"
    if rng.random() < 0.5:
        return [rng.choice(list(UNARY)), grow(rng, depth - 1)]
    return [rng.choice(list(BINARY)), grow(rng, depth - 1), grow(rng, depth - 1)]


def mutate(rng: random.Random, formula: Any) -> Any:
    """The formula with one part wrapped, re-drawn, or under another operator of the same number of inputs."""
    if isinstance(formula, list) and rng.random() < 0.7:
        place = rng.randrange(len(formula))
        kind = UNARY if len(formula) == 2 else BINARY
        return [rng.choice(list(kind)) if i == place == 0 else mutate(rng, part) if i == place else part for i, part in enumerate(formula)]
    return [rng.choice(list(UNARY)), formula] if rng.random() < 0.3 else grow(rng, 2)


def size(formula: Any) -> int:
    return 1 + sum(size(part) for part in formula[1:]) if isinstance(formula, list) else 1


def apply(formula: Any, x: Tensor) -> Tensor:
    """The formula's value, of the shape of `x`."""
    if formula == "x":
        return x
    name, *parts = formula
    return (UNARY | BINARY)[name](*(apply(part, x) for part in parts))


def fingerprint(formula: Any) -> str:
    """Equal functions have equal fingerprints, however they are written."""
    return str([f"{v:.6g}" for v in apply(formula, torch.linspace(-6, 6, 97, dtype=torch.float64)).tolist()])


def screen(formula: Any, seen: set[str]) -> str | None:
    """None for a formula worth training, else the reason; `seen` holds the fingerprints of those asked before."""
    values = apply(formula, torch.linspace(-6, 6, 97, dtype=torch.float64))
    if size(formula) > 8:
        return "too large"
    if not values.isfinite().all() or values.abs().max() > 1e4:
        return "not finite or too steep"
    return "constant" if values.std() < 1e-3 else "duplicate" if fingerprint(formula) in seen else None


class Layer(nn.Module):
    def __init__(self, formula: Any) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.formula, x)


@cache
def textures(region: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Patches `(N, 1, 16, 16)` of brick, grass and gravel from these image columns, normalized; labels `(N,)`."""
    from skimage import data

    images = [torch.from_numpy(getattr(data, name)()).float()[:, slice(*region)] for name in ("brick", "grass", "gravel")]
    x = torch.stack([i.unfold(0, 16, stride).unfold(1, 16, stride).reshape(-1, 1, 16, 16) for i in images]).flatten(0, 1)
    y = torch.arange(3).repeat_interleave(len(x) // 3)
    return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-3), y


def evaluate(text: str) -> dict[str, Any]:
    """Trains a small convnet at every rate, the same for everyone; the best rate on validation is scored once on the test region."""
    torch.set_num_threads(1)
    (x, y), validation, test = textures((0, 288), 8), textures((288, 400), 16), textures((400, 512), 16)
    best: tuple[float, float] = (-1.0, -1.0)
    for rate in RATES:
        torch.manual_seed(0)
        act = json.loads(text)
        net = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), Layer(act), nn.Conv2d(16, 32, 3, 2, 1), Layer(act), nn.Conv2d(32, 32, 3, 1, 1), Layer(act),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), lr=rate)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            batch = torch.randint(len(x), (32,))
            loss = F.cross_entropy(net(x[batch]), y[batch])
            if not math.isfinite(loss.item()):
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            scores = [100 * float((net(inputs).argmax(1) == labels).double().mean()) for inputs, labels in (validation, test)]
        best = max(best, (scores[0], scores[1]))
    return {"candidate": text, "size": size(json.loads(text)), "validation": best[0], "test": best[1]}


class Search:
    """Ask and tell, nothing else: aging evolution (the parent is the best of a sample of the youngest POPULATION results)."""

    def __init__(self, seed: int) -> None:
        self.seed, self.asked, self.results = seed, 0, dict[int, dict[str, Any]]()
        self.seen, self.rejected = set[str](), Counter[str]()

    def ready(self) -> bool:
        return all(k in self.results for k in range(self.asked - WINDOW + 1))

    def ask(self) -> str:
        k, rng = self.asked, random.Random(f"{self.seed}/{self.asked}")
        alive = [self.results[i] for i in range(max(0, k - WINDOW + 1 - POPULATION), k - WINDOW + 1)]
        formula = BASELINES[k] if k < len(BASELINES) else self.propose(alive, rng)
        while k >= len(BASELINES) and (reason := screen(formula, self.seen)):
            self.rejected[reason] += 1
            formula = self.propose(alive, rng)
        self.seen.add(fingerprint(formula))
        self.asked += 1
        return json.dumps(formula)

    def propose(self, alive: list[dict[str, Any]], rng: random.Random) -> Any:
        if len(alive) < 4 or rng.random() < 0.2:
            return grow(rng, 3)
        return mutate(rng, json.loads(max(rng.sample(alive, 4), key=lambda r: r["validation"])["candidate"]))

    def front(self) -> list[dict[str, Any]]:
        """The results that no other beats in validation accuracy at the same size or a smaller one, best first."""
        def beaten(r: dict[str, Any]) -> bool:
            return any((o["validation"], -o["size"]) != (r["validation"], -r["size"])
                       and o["validation"] >= r["validation"] and o["size"] <= r["size"] for o in self.results.values())  # fmt: skip
        return sorted((r for r in self.results.values() if not beaten(r)), key=lambda r: -r["validation"])


def run(out: Path, budget: int, seed: int, workers: int) -> Search:
    """Replays what the log answers, has the rest evaluated, and logs each result before it is told."""
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = [line for line in (out.read_text() if out.exists() else "").splitlines(keepends=True) if line.endswith("\n")]
    out.write_text("".join(whole))  # a torn last line is dropped
    logged = {row["index"]: row for row in map(json.loads, whole)}
    search, pending = Search(seed), dict[Future[dict[str, Any]], int]()
    with out.open("a") as log, ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while search.asked < budget or pending:
            while search.asked < budget and len(pending) < workers and search.ready():
                k, text = search.asked, search.ask()
                if k in logged and logged[k]["candidate"] != text:
                    raise ValueError(f"{out} was made with another seed or another version: its row {k} is {logged[k]['candidate']}, not {text}")
                if k in logged:
                    search.results[k] = logged[k]
                else:
                    pending[pool.submit(evaluate, text)] = k
            for future in wait(pending, return_when=FIRST_COMPLETED).done if pending else ():
                row = {"index": pending.pop(future), **future.result()}
                log.write(json.dumps(row) + "\n")
                log.flush()
                search.results[row["index"]] = row
    return search


def main() -> None:
    parser = argparse.ArgumentParser(description="The idea of evosearch in one file.")
    parser.add_argument("--out", type=Path, default=Path("runs/mini.jsonl"))
    for name, default in (("budget", 48), ("seed", 0), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    search = run(**vars(arguments))
    print("rejected before training:", dict(search.rejected))
    rows = {r["index"]: r for r in [*search.front(), *(search.results[k] for k in range(len(BASELINES)))]}.values()
    pick = max((r for r in rows if r["index"] >= len(BASELINES)), key=lambda r: r["validation"], default=None)
    print("      validation %   test %   size   formula")
    for row in sorted(rows, key=lambda r: -r["validation"]):
        note = "   (baseline)" if row["index"] < len(BASELINES) else ""
        print(f"{'>>>>' if row is pick else '':4}  {row['validation']:12.1f}  {row['test']:7.1f}  {row['size']:5}   {row['candidate']}{note}")


if __name__ == "__main__":
    main()
