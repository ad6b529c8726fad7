"""Run as a child: feeds hostile text to everything that reads text, while an audit hook watches. Prints one JSON line.

    python -m tests.hostile_child FOLDER     # the folder is empty, and the only one in which anything may be written
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from evosearch.cli.layers import _layer
from evosearch.config import _parse, find_space, load, read_run_file
from evosearch.job import Job, Result
from evosearch.language.candidate import parse_candidate
from evosearch.language.formula import parse
from evosearch.language.library import known
from evosearch.meaning.screen import Screen
from evosearch.proposers.registry import make_proposer
from evosearch.seeding import named

CALLS = [
    "__import__('os').system('touch {0}')", "eval('1')", "exec('import os')", "compile('1', 'f', 'eval')", "open('{0}', 'w')",
    "().__class__.__base__.__subclasses__()", "x.__class__.__mro__[1]", "globals()['__builtins__']", "(lambda: open('{0}', 'w'))()", "[y for y in (1,)]",
    "{{1: 2}}[1]", "f'{{open(1)}}'", "x if eval('1') else x", "getattr(x, 'a')", "os.system('touch {0}')", "print(x)", "breakpoint()", "exit()", "input()",
    "(yield x)", "(y := open('{0}', 'w'))", "*x", "**x", "x @ x", "x[0:1]", "not x", "x and exit()", "...", "None", "b'x'", "'x' * 10 ** 9", "0x" + "f" * 900,
    "9**9**9**9", "x ** 1e9", "1e999999999", "10 ** 10 ** 10", "1" * 5000, "1_0" * 900, "(" * 3000 + "x" + ")" * 3000, "-" * 3999 + "x", "x" + "+x" * 2000,
    "sin(" * 900 + "x" + ")" * 900, "x" + ".a" * 1500, "x" + "[0]" * 900, "a" * 4095, "", "relu(x", "x)", "x\x00y", "x\ny", "x;import os", "x # \u202e",
    "\ufeffx", "\u0445", "x\u200bx", "\x1b[31mx", "x ~ exit()", "x where v: channel = exit()", "x where __class__: layer = 1", "v * x where v: layer = 1e400",
    "std(x, batch, eps=exit())", "std(x, group, groups=10**10**10)", "mean(x, __import__)", "act := exit()", "act := x; act := x",
    "act0 := x; depth := __import__('os')", "act0 := x; " * 300, "act := " + "(" * 2000, "depth := 9**9**9; act0 := x",
]  # fmt: skip
TAGS = [
    "!!python/object/apply:os.system ['touch {0}']", "!!python/name:os.system", "!!python/module:os", "!!python/object/new:os.system ['touch {0}']",
    "!!binary aGk=", "a: &a [1]\nb: *a", "a: &a [*a]", "<<: *x", "!include /etc/passwd", "!<tag:yaml.org,2002:python/tuple> [1]", "? [a, b]\n: 1",
    "%TAG ! tag:x,2000:\n---\na: !b 1", "[" * 5000, "{{a: " * 5000, "- " * 5000 + "a", "a: " + "9" * 200_000, "a: 0x" + "f" * 100_000, "a: 1e" + "9" * 5000,
    "\x00", "\x85a: \x1b", "a: |\n " + "x" * 100_000, "a: 1\na: 2", "--- a\n--- b\n", "a: 2001-99-99", "a: !!timestamp 1", "a: !!float x", "a: !!int 'x'",
    "a: '\\x1b'", "a:\n" + "".join(f"  k{i}: {i}\n" for i in range(30_000)),
]  # fmt: skip
FORMS = ("{}", "x * {}", "{} + x", "max(x, {})", "{} where v: channel = 1")  # so that each is met at different places


def texts(folder: Path) -> list[str]:
    """Some 340 hostile strings; what they would make if they ran is in the folder."""
    marker = str(folder / "owned")
    calls = [text.replace("{0}", marker).replace("{{", "{").replace("}}", "}") for text in CALLS]
    tags = [text.replace("{0}", marker).replace("{{", "{").replace("}}", "}") for text in TAGS]
    return [*tags, *dict.fromkeys(form.replace("{}", text) for text in calls for form in FORMS)]


def readers(folder: Path) -> dict[str, Callable[[str], object]]:
    """Everything that reads text by name."""
    space = load("smoke.yaml").space.space()
    screen, tree = Screen(8, 1), make_proposer("random", space)
    file = folder / "config.yaml"

    def config(text: str) -> object:
        file.write_text(text, encoding="utf-8", errors="replace")
        return load(str(file))

    return {
        "formula": parse, "candidate": parse_candidate, "library": known, "layer": _layer, "space file": find_space, "yaml": lambda text: _parse(text, "file"),
        "config": config, "run.yaml": lambda text: read_run_file(text, "run.yaml", lambda plugins: None),
        "seed": lambda text: named(text, space, ("textures/plain-cnn",)),
        "job": Job.from_text, "result": Result.from_text, "screen": screen.check, "space": lambda text: space.derive(parse_candidate(text)),
        "override": lambda text: load("smoke.yaml", [f"seed={text}"]) if len(text) < 60 else tree,
    }  # fmt: skip


def watched(folder: Path) -> list[str]:
    """A list that an audit hook fills with whatever no reader has to do."""
    seen: list[str] = []
    never = ("exec", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.", "socket.", "ctypes.", "pickle.", "marshal.load", "shutil.",
             "os.remove", "os.rename", "os.mkdir", "os.symlink", "urllib.", "code.")  # fmt: skip

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not on:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        outside = writes and not str(arguments[0]).startswith(str(folder))
        if event.startswith(never) or outside:
            seen.append(f"{event} {str(arguments)[:120]}")

    on: list[bool] = []
    sys.addaudithook(hook)
    on.append(True)
    return seen


def main(folder: Path) -> None:
    given, found = texts(folder), readers(folder)
    for name, read in found.items():  # what is imported and opened once, before anybody watches
        for text in ("x", "relu", "x +", "a: 1", "{}", "x.y", "sin(", "act := x", "[1, 2", "a: !b 1", "config: {}\nenvironment: {}\n", "tanh(x) + relu(x)"):
            try:
                read(text)
            except (ValueError, TypeError):
                assert name
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen, slow, odd, refused, tries = watched(folder), [], [], 0, 0
    for text in given:
        for name, read in found.items():
            tries += 1
            start = time.process_time()
            try:
                read(text)
            except ValueError as error:
                refused += 1
                if len(str(error)) > 2000:
                    odd.append(f"{name}: a message of {len(str(error))} letters")
            except BaseException as error:
                odd.append(f"{name}: {type(error).__name__} for {text[:60]!r}")
            if (spent := time.process_time() - start) > 2.0:
                slow.append(f"{name}: {spent:.1f} s for {text[:60]!r}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    left = sorted(path.name for path in folder.iterdir())
    print(json.dumps({"texts": len(given), "tries": tries, "refused": refused, "seen": seen, "slow": slow, "odd": odd, "grown_mb": grown, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
