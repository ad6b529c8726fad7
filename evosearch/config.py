"""Configuration: pydantic models over YAML 1.2. An unknown key or a wrong value names the file, the line, and the likely fix."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from evosearch.judging.objectives import nearest
from evosearch.plugin import PluginError, loaded
from evosearch.sections import Config
from evosearch.seeding import Asked, BestOfRun, named

__all__ = ["Config", "ConfigError", "digest", "dump_yaml", "find_space", "load", "read_run_file", "read_run_of", "run_file"]

MAX_BYTES = 1_000_000
MAX_LEVELS = 20
MAX_VALUES = 8_000  # keys count too: whatever is in a stranger's file, it is read in a second
_MAX_KEPT = 10_000  # in run.yaml, where seeds are written out
_UNMARKED: Any = {"budget": True, "execution": True, "data": {"__all__": {"path"}}}  # what may change on resume


class ConfigError(ValueError):
    """The configuration breaks a rule; says file, line, key, what was received and the likely fix."""


def dump_yaml(data: Mapping[str, Any]) -> str:
    """A mapping as YAML 1.2 text."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(data), stream)
    return stream.getvalue()


def run_file(config: Config, environment: Mapping[str, Any]) -> str:
    """A run's own file: the resolved configuration, and what else its scores depend on."""
    return dump_yaml({"config": config.model_dump(mode="json"), "environment": environment})


def find_space(path: str) -> Path:
    """The file itself; for a bare name, or `search_spaces/NAME`, with .yaml or without, else the one that travels with the package.

    Raises ConfigError with what there is.
    """
    if os.path.isfile(path):  # where Path.is_file() raises for a name that is too long
        return Path(path)
    shipped = Path(str(files("evosearch"))) / "search_spaces"
    if not shipped.is_dir():  # a checkout: the folder stands beside the package
        shipped = Path(str(files("evosearch"))).parent / "search_spaces"
    found = shipped / (Path(path).name if Path(path).suffix else f"{Path(path).name}.yaml")
    if os.path.dirname(path) in ("", "search_spaces") and os.path.isfile(found):
        return found
    names = sorted(p.name for p in shipped.glob("*.yaml"))
    close = difflib.get_close_matches(Path(path).name, names, n=1)
    hint = f"did you mean `search_spaces/{close[0]}`?" if close else f"there are {', '.join(names)}"
    raise ConfigError(f"no such file: {path[:120]}; {hint}")


def load(path: str, overrides: Sequence[str] = (), options: Mapping[str, object] = MappingProxyType({})) -> Config:
    """The configuration of a YAML file, with `key.sub=value` overrides. Raises ConfigError.

    `options` are those of the command line by the key that they set, None where not given: `budget.minutes` is `--minutes`.
    """
    file = find_space(path)
    path = str(file)
    if file.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: a configuration has at most {MAX_BYTES} bytes; received {file.stat().st_size}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    tree = _parse(text, path)
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{path}: a configuration is a mapping with the keys {', '.join(Config.model_fields)}; see search_spaces/activation.yaml")
    origins: dict[tuple[str, ...], str] = {}
    data = _plain(tree)
    for override in overrides:
        key, separator, value = override.partition("=")
        shown = f"--set {override[:80]}"
        if not separator:
            raise ConfigError(f"--set reads key.sub=value, e.g. --set budget.evaluations=40; received `{override[:80]}`")
        _override(data, key, _plain(_parse(value, f"--set {key[:80]}")), shown, origins)
    for key, given in options.items():
        if given is not None:
            _override(data, key, given, f"--{key.rpartition('.')[2]} {given}"[:80], origins)
    if isinstance(data.get("data"), dict):
        _describe(data["data"], tree, file, origins)
    if not isinstance(seeds := data.pop("seeds", None), list):
        return _validate(data if seeds is None else {**data, "seeds": seeds}, tree, path, origins)
    found = _seeds(seeds, _validate(data, tree, path, origins), tree, file, origins)
    return _validate({**data, "seeds": found}, tree, path, origins)


def _describe(data: dict[str, Any], tree: Any, file: Path, origins: Mapping[tuple[str, ...], str]) -> None:
    """Puts what is read of each `name: path` in place of the path, which is relative to the YAML file (of --set, to here). Raises ConfigError."""
    from evosearch.dataset.read import data_file, read  # numpy and pyarrow: only for those who have data

    for name, place in data.items():
        typed = origins.get(("data", name)) or origins.get(("data",))
        where = typed or f"{file}:{_line(tree, ('data', name))}"
        if isinstance(place, dict):
            continue  # as in the configuration that a run keeps
        if not isinstance(place, str) or not place:
            raise ConfigError(f"{where}: `data.{name}` is the path of a file or folder; received {place!r:.80}")
        path = (Path() if typed else file.parent) / Path(os.path.expanduser(place))
        try:
            found = asdict(data_file(name, path, read(path)))
        except ValueError as error:
            raise ConfigError(f"{where}: `data.{name}`: {error}") from error
        data[name] = {key: value for key, value in found.items() if key != "name"}


def _seeds(entries: Sequence[Any], config: Config, tree: Any, file: Path, origins: Mapping[tuple[str, ...], str]) -> list[Any]:
    """Every entry as the candidates that it means, so that the run needs neither the library nor the earlier run's folder. Raises ConfigError."""
    found: list[Any] = []
    asked, space = config.asked(), config.space.space()
    for i, entry in enumerate(entries):
        where = origins.get(("seeds",)) or f"{file}:{_line(tree, ('seeds', i))}"
        try:
            if isinstance(entry, dict) and "run" in entry:
                of = BestOfRun.model_validate(entry)
                found += _of_run(of, (Path() if ("seeds",) in origins else file.parent) / Path(os.path.expanduser(of.run)), asked)
            elif isinstance(entry, str):
                text, source = named(entry, space, config.judging.pairs)
                asked.take(text, f"`{entry[:80]}`")
                found.append({"candidate": text, "source": source, "name": entry if source == "library" else ""})
            elif not isinstance(entry, dict) or "candidate" not in entry:
                raise ValueError(f"a seed is a layer's name, a formula, or {{run: FOLDER, top: 5}}; received {entry!r:.80}")
            else:
                found.append(entry)  # as in the configuration that a run keeps
        except ValidationError as error:
            raise ConfigError(f"{where}: {_explain(error.errors()[0], ('seeds', str(i), *map(str, error.errors()[0]['loc'])))}") from None
        except ValueError as error:
            raise ConfigError(f"{where}: `seeds.{i}`: {error}") from None
    return found


def _of_run(of: BestOfRun, directory: Path, asked: Asked) -> list[dict[str, str]]:
    """The best functions of an earlier run, its pick first; those that would not be asked say why.

    Raises ValueError for what is no run, and for one of which nothing can be asked.
    """
    from evosearch.delivery.summary import leaders, read

    def check(recorded: Mapping[str, str]) -> None:
        for name in recorded:
            if loaded(name.removesuffix(".py")) is None:
                raise PluginError(f"{directory} was made with the plug-in {name}; give it here too: --plugin {name}")

    found = []
    for text in leaders(read(directory, read_run_of(directory, check)[0]), of.top):
        left_out = asked.refusal(text)
        found.append({"candidate": text, "source": "run", "name": of.run, "left_out": left_out})
        if not left_out:
            asked.add(text, f"the seed `{text[:80]}`")
    if all(seed["left_out"] for seed in found):
        first = found[0]
        raise ValueError(f"of the {len(found)} best functions of {directory} none can be asked: `{first['candidate'][:80]}` {first['left_out']}; leave it out")
    return found


def read_run_of(directory: Path, check_plugins: Callable[[Mapping[str, str]], None]) -> tuple[Config, dict[str, Any]]:
    """`read_run_file` of the run in the folder; of a configuration, that with which its journal was begun.

    Raises ConfigError, and LogError for a folder where a file belongs and for a damaged journal.
    """
    from evosearch.search.store import check_files, read_bytes, read_records  # pyarrow: not for a mistyped key

    file = directory / "run.yaml"
    check_files(directory)
    if not os.path.isfile(file):
        raise ConfigError(f"{str(directory)[:160]} is not a run (it has no run.yaml); `evosearch run SPACE.yaml --out {directory}` makes one")
    if file.stat().st_size > 2 * MAX_BYTES:
        raise ConfigError(f"{file} is damaged: it has {file.stat().st_size} bytes, a run's configuration at most {2 * MAX_BYTES}; restore it from a copy")
    try:
        config, environment = read_run_file(read_bytes(file).decode("utf-8"), str(file), check_plugins)
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is damaged: not UTF-8 text; restore it from a copy") from None
    except ConfigError as error:
        if "restore it" in str(error):
            raise
        raise ConfigError(f"{error}; it is damaged or was edited: restore it from a copy") from None
    begun_with = [record["sha256"] for record in read_records(directory)[0] if record["type"] == "config"]
    if digest(config) not in begun_with:
        what = "its configuration is not the one that the journal was begun with" if begun_with else "the journal was begun without it"
        raise ConfigError(f"{file} is damaged or was edited: {what}; restore it from a copy, or begin anew with another --out")
    return config, environment


def digest(config: Config) -> str:
    """SHA-256 of what may not change: of the keys that were given, so that a key which a later version adds changes nothing."""
    tree = config.model_dump(mode="json", exclude=_UNMARKED, exclude_unset=True)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def read_run_file(text: str, name: str, check_plugins: Callable[[Mapping[str, str]], None]) -> tuple[Config, dict[str, Any]]:
    """What `run_file` wrote; plug-ins are checked first, for the configuration may name what they define. Raises ConfigError."""
    try:
        tree = _parse(text, name, _MAX_KEPT)
    except ConfigError as error:
        raise ConfigError(f"{error}; evosearch does not write such a file: restore it from a copy") from None
    sections = [tree.get(key) if isinstance(tree, CommentedMap) else None for key in ("config", "environment")]
    if not all(isinstance(section, CommentedMap) for section in sections):
        raise ConfigError(f"{name} is damaged: it holds no config and environment as evosearch writes them; restore it from a copy")
    config, environment = sections[0], _plain(sections[1])
    check_plugins({} if (plugins := environment.get("plugins")) is None else plugins)
    return _validate(_plain(config), config, name, {}), environment


def _parse(text: str, name: str, most: int = MAX_VALUES) -> Any:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    try:
        level = 0
        for number, event in enumerate(YAML(typ="rt", pure=True).parse(text)):
            if number > most:
                raise ConfigError(f"{name}: a configuration has at most {most} keys and values; this one has more")
            level += type(event).__name__.endswith(("MappingStartEvent", "SequenceStartEvent"))
            level -= type(event).__name__.endswith(("MappingEndEvent", "SequenceEndEvent"))
            if isinstance(event, AliasEvent):
                raise ConfigError(f"{name}:{event.start_mark.line + 1}: YAML aliases are not used here; write the value out")
            if level > MAX_LEVELS:
                raise ConfigError(f"{name}:{event.start_mark.line + 1}: nested more than {MAX_LEVELS} levels deep")
        return yaml.load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError(f"{name}{line}: not valid YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested more than {MAX_LEVELS} levels deep") from None
    except ConfigError:
        raise
    except ValueError as error:  # a number of more digits than Python reads
        raise ConfigError(f"{name}: not a value: {str(error)[:120]}") from None


def _plain(node: Any) -> Any:
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    return str(node)


def _override(data: dict[str, Any], key: str, value: object, shown: str, origins: dict[tuple[str, ...], str]) -> None:
    path = tuple(key.strip().split("."))
    if not all(path):
        raise ConfigError(f"{shown}: a key reads key.sub, e.g. budget.evaluations")
    target: Any = data
    for part in path[:-1]:
        target = target.setdefault(part, {}) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ConfigError(f"{shown}: `{'.'.join(path[:-1])}` has no keys of its own")
    target[path[-1]] = value
    origins[path] = shown


def _validate(data: dict[str, Any], tree: Any, name: str, origins: Mapping[tuple[str, ...], str]) -> Config:
    try:
        # JSON mode reads 3 as a float where one is wanted, and still refuses "3"
        return Config.model_validate(_numbers(data, Config), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        where = next((text for key, text in origins.items() if path[: len(key)] == key or key[: len(path)] == path), None)
        where = where or f"{name}:{_line(tree, first['loc'])}"
        raise ConfigError(f"{where}: {_explain(first, path)}") from None


def _numbers(value: Any, model: Any) -> Any:
    """Whole numbers as floats in the fields that are floats; everything else as it is."""
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        field = getattr(model, "model_fields", {}).get(key)
        kind = field.annotation if field else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            result[key] = _numbers(item, kind)
        elif field is not None and "float" in str(kind) and "int" not in str(kind):  # a choice may be either
            result[key] = _floats(item)
        else:
            result[key] = item
    return result


def _floats(item: Any) -> Any:
    if isinstance(item, list):
        return [_floats(i) for i in item]
    if isinstance(item, dict):
        return {k: _floats(v) for k, v in item.items()}
    if not isinstance(item, int) or isinstance(item, bool):
        return item
    try:
        return float(item)
    except OverflowError:
        return math.inf if item > 0 else -math.inf  # breaks the field's own limit


def _line(tree: Any, location: Sequence[Any]) -> int:
    line = 1
    for part in location:
        if isinstance(tree, (CommentedMap, CommentedSeq)):
            position = tree.lc.data.get(part) if tree.lc.data else None
            line = position[0] + 1 if position else line
            try:
                tree = tree[part]
            except (KeyError, IndexError, TypeError):
                break
    return line


_BOUNDS = {"greater_than": "> {gt:g}", "greater_than_equal": ">= {ge:g}", "less_than": "< {lt:g}", "less_than_equal": "<= {le:g}"}


def _explain(error: Any, path: tuple[str, ...]) -> str:
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        names = _siblings(path[:-1])
        return f"unknown key `{key}`" + (f"; {nearest(path[-1], names)}" if names else "")
    if error["type"] == "missing":
        return f"`{key}` is missing"
    if error["type"] == "value_error":
        return f"`{key}`: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    received = repr(error["input"])[:80]
    if error["type"] in _BOUNDS:
        return f"`{key}` must be {_BOUNDS[error['type']].format(**error['ctx'])}; received {received}"
    return f"`{key}`: {error['msg'][0].lower()}{error['msg'][1:]}; received {received}"


def _siblings(path: Sequence[str]) -> list[str]:
    model: Any = Config
    for part in path:
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
