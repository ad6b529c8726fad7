"""evosearch in one file: formulas, a screen, a window, short trainings, aging evolution, a log that resumes, a Pareto table.

    python scripts/evosearch_mini.py [LOG.jsonl]        # under 30 seconds; typed again with the same LOG it resumes

The package does each of these properly; this is for reading. Needs torch and scikit-learn.
"""

import hashlib
import json
import random
import sys
from itertools import pairwise
from pathlib import Path

import torch
from sklearn.datasets import load_digits

UNARY = {"neg": torch.neg, "tanh": torch.tanh, "sin": torch.sin, "cos": torch.cos, "sigmoid": torch.sigmoid,
         "relu": torch.relu, "square": torch.square, "softplus": torch.nn.functional.softplus}  # fmt: skip
BINARY = {"add": torch.add, "mul": torch.mul, "max": torch.maximum, "min": torch.minimum}
BASELINES = ["x", ["relu", "x"], ["tanh", "x"], ["sin", "x"], ["mul", "x", ["sigmoid", "x"]]]
SEED, BUDGET, WINDOW, POPULATION, STEPS = 0, 60, 4, 12, 60


def text(graph):
    """A graph is "x" or [operator, input, ...]; its text is its identity."""
    return graph if isinstance(graph, str) else f"{graph[0]}({', '.join(map(text, graph[1:]))})"


def size(graph):
    return 1 if isinstance(graph, str) else 1 + sum(map(size, graph[1:]))


def value(graph, x):
    return x if isinstance(graph, str) else (UNARY | BINARY)[graph[0]](*(value(g, x) for g in graph[1:]))


def grow(rng):
    """binary(unary, unary), where a unary may be left out."""
    return [rng.choice(list(BINARY)), *(rng.choice(["x", [rng.choice(list(UNARY)), "x"]]) for _ in range(2))]


def mutate(graph, rng):
    """Descends to a random place and draws it afresh."""
    if isinstance(graph, str) or rng.random() < 0.3:
        return rng.choice([grow(rng), [rng.choice(list(UNARY)), graph], "x"])
    at = rng.randrange(1, len(graph))
    return [*graph[:at], mutate(graph[at], rng), *graph[at + 1 :]]


def fingerprint(graph):
    """Values on a grid: None for what is hopeless, one key for functions that are equal."""
    y = value(graph, torch.linspace(-6, 6, 64, dtype=torch.double))
    hopeless = not y.isfinite().all() or y.abs().max() > 1e3 or y.diff(n=2).abs().max() < 1e-6
    return None if hopeless else str((y * 1e6).round().long().tolist())


def train(graph, data):
    """Validation accuracy in percent of a narrow MLP on digits, best of two learning rates: everyone gets the same."""
    (x, y), (vx, vy) = data
    scores = []
    for rate in (0.003, 0.01):
        generator = torch.Generator().manual_seed(SEED)
        weights = [(torch.randn(a, b, generator=generator) / a**0.5).requires_grad_() for a, b in pairwise([64, 16, 16, 16, 16, 10])]
        optimizer = torch.optim.Adam(weights, lr=rate)

        def model(h, weights=weights):
            for w in weights[:-1]:
                h = value(graph, h @ w)
            return h @ weights[-1]

        for _ in range(STEPS):
            batch = torch.randint(len(x), (64,), generator=generator)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        scores.append((model(vx).argmax(1) == vy).double().mean().item() * 100)
    return max(scores)


def ask(k, told, seen):
    """The proposal of ask k: a function of (seed, k) and of the results up to k - window, whoever computed them."""
    rng = random.Random(int(hashlib.sha256(f"{SEED}/{k}".encode()).hexdigest(), 16))
    population = told[: max(0, k - WINDOW + 1)][-POPULATION:]  # aging: only the youngest are parents
    while True:
        full = len(population) >= POPULATION
        graph = mutate(max(rng.sample(population, 3), key=lambda r: r["accuracy"])["graph"], rng) if full else grow(rng)
        key = fingerprint(graph)
        if key is not None and key not in seen and size(graph) <= 9:
            seen.add(key)
            return graph


def search(log, data):
    """The loop; what the log answers already is not trained again."""
    logged = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    told, seen = [], {fingerprint(graph) for graph in BASELINES}
    for k in range(BUDGET):
        graph = BASELINES[k] if k < len(BASELINES) else ask(k, told, seen)
        row = logged[k] if k < len(logged) else {"graph": graph, "accuracy": train(graph, data), "size": size(graph)}
        if row["graph"] != graph:
            sys.exit(f"line {k + 1} of {log} is of another search; choose another log")
        if log and k >= len(logged):
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
        told.append(row)
    return told


def main():
    torch.set_num_threads(1)
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(pixels).float() / 6 - 0.8, torch.from_numpy(labels)
    told = search(Path(sys.argv[1]) if len(sys.argv) > 1 else None, ((x[:1000], y[:1000]), (x[1000:], y[1000:])))
    points = [(r["accuracy"], -r["size"]) for r in told]
    best_found = sorted((r["accuracy"] for r in told[len(BASELINES) :]), reverse=True)[:5]
    print("accuracy %  size  formula")
    for row, point in sorted(zip(told, points, strict=True), key=lambda pair: pair[1], reverse=True):
        on_front = not any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in points)
        if on_front or row["graph"] in BASELINES or row["accuracy"] in best_found:
            mark = "(baseline)" if row["graph"] in BASELINES else ""
            print(f"{row['accuracy']:10.1f}  {row['size']:4}  {text(row['graph'])} {mark}{'(front)' if on_front else ''}")


if __name__ == "__main__":
    main()
