"""Configuration: pydantic models over YAML 1.2. An unknown key or a wrong value names the file, the line, and the likely fix."""

from __future__ import annotations

import difflib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from evosearch.judging.baselines import baseline
from evosearch.judging.objectives import parse_pair
from evosearch.language.operators import OPERATORS
from evosearch.proposers.registry import PROPOSERS

MAX_BYTES = 1_000_000
MAX_LEVELS = 20


class ConfigError(ValueError):
    """The configuration breaks a rule; says file, line, key, what was received and the likely fix."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _operator(name: str) -> str:
    if name not in OPERATORS or not OPERATORS[name].searchable:
        raise ValueError(f"unknown operator `{name[:40]}`; {_nearest(name, OPERATORS)}")
    return name


def _pair(text: str) -> str:
    parse_pair(text)
    return text


def _baseline(name: str) -> str:
    baseline(name)
    return name


def _proposer(name: str) -> str:
    if name not in PROPOSERS:
        raise ValueError(f"unknown proposer `{name[:40]}`; {_nearest(name, PROPOSERS)}")
    return name


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"


Factor = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class SpaceSection(_Section):
    """What may be built (space.SearchSpace)."""

    operators: list[Annotated[str, AfterValidator(_operator)]]
    max_nodes: Annotated[int, Field(ge=2, le=64)]
    extra_operators: Annotated[int, Field(ge=0, le=8)] = 1
    constants: bool = True
    layer_parameters: Annotated[int, Field(ge=0, le=4)] = 0
    channel_parameters: Annotated[int, Field(ge=0, le=4)] = 0


class StageSection(_Section):
    """Where and how long to train."""

    pairs: Annotated[list[Annotated[str, AfterValidator(_pair)]], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    rates: Annotated[list[Factor], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=100)] = 1


class JudgingSection(_Section):
    """The funnel: the quality test, longer training for the best `promote` share, the final check."""

    quality: StageSection
    full: StageSection
    final: StageSection
    promote: Annotated[float, Field(gt=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _one_quality_seed(self) -> JudgingSection:
        if self.quality.seeds != 1:
            raise ValueError("the quality test has one seed; put more seeds in `full`")
        return self


class BudgetSection(_Section):
    """Totals, not increments: dispatched functions, baselines included; minutes of asking."""

    evaluations: Annotated[int, Field(ge=3, le=10_000_000)]
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None


class ExecutionSection(_Section):
    """Where jobs run. None of these changes what is found."""

    executor: Literal["serial", "local", "ray"] = "local"
    workers: Annotated[int, Field(ge=0, le=10_000)] = 0  # 0: as many as cores
    address: str | None = None
    device: str = "cpu"
    time_limit: Annotated[float, Field(gt=0, le=1e6)] = 300.0
    memory_limit_gb: Annotated[float, Field(ge=0, le=10_000)] = 4.0  # 0: none


class Config(_Section):
    """One search, from space to budget."""

    space: SpaceSection
    judging: JudgingSection
    baselines: list[Annotated[str, AfterValidator(_baseline)]]
    proposers: dict[Annotated[str, AfterValidator(_proposer)], Annotated[float, Field(ge=0, le=1000)]]
    budget: BudgetSection
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    window: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    execution: ExecutionSection = ExecutionSection()

    @model_validator(mode="after")
    def _baselines_make_the_bar(self) -> Config:
        missing = [name for name in ("identity", "relu") if name not in self.baselines]
        if missing:
            raise ValueError(f"baselines must hold identity and relu, from which the quality bar follows; `{missing[0]}` is missing")
        if self.budget.evaluations <= len(self.baselines):
            raise ValueError(f"budget.evaluations counts the {len(self.baselines)} baselines too; received {self.budget.evaluations}: raise it")
        if not any(share > 0 for share in self.proposers.values()):
            raise ValueError("proposers: at least one needs a share above 0")
        return self

    def to_yaml(self) -> str:
        """The resolved configuration as YAML."""
        return dump_yaml(self.model_dump(mode="json"))


def dump_yaml(data: Mapping[str, Any]) -> str:
    """A mapping as YAML 1.2 text."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(data), stream)
    return stream.getvalue()


def find_space(path: str) -> Path:
    """The file itself, or the one of that name that travels with the package. Raises ConfigError with what there is."""
    if Path(path).is_file():
        return Path(path)
    shipped = Path(str(files("evosearch"))) / "search_spaces"
    if not shipped.is_dir():  # a checkout: the folder stands beside the package
        shipped = Path(str(files("evosearch"))).parent / "search_spaces"
    found = shipped / Path(path).name
    if found.is_file():
        return found
    names = sorted(p.name for p in shipped.glob("*.yaml"))
    close = difflib.get_close_matches(Path(path).name, names, n=1)
    hint = f"did you mean `search_spaces/{close[0]}`?" if close else f"there are {', '.join(names)}"
    raise ConfigError(f"no such file: {path}; {hint}")


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a YAML file, with `key.sub=value` overrides. Raises ConfigError."""
    file = find_space(path)
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
        _override(data, override, origins)
    return _validate(data, tree, path, origins)


def read_resolved(text: str, name: str) -> Config:
    """The configuration of a run's own file. Raises ConfigError."""
    tree = _parse(text, name)
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{name}: not a configuration")
    return _validate(_plain(tree), tree, name, {})


def _parse(text: str, name: str) -> Any:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    try:
        level = 0
        for event in YAML(typ="rt", pure=True).parse(text):
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


def _override(data: dict[str, Any], text: str, origins: dict[tuple[str, ...], str]) -> None:
    key, separator, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise ConfigError(f"--set reads key.sub=value, e.g. --set budget.evaluations=40; received `{text[:80]}`")
    target: Any = data
    for part in path[:-1]:
        target = target.setdefault(part, {}) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ConfigError(f"--set {text[:80]}: `{'.'.join(path[:-1])}` has no keys of its own")
    target[path[-1]] = _plain(_parse(value, f"--set {key}"))
    origins[path] = f"--set {text[:80]}"


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
        elif field is not None and "float" in str(kind):
            result[key] = _floats(item)
        else:
            result[key] = item
    return result


def _floats(item: Any) -> Any:
    if isinstance(item, list):
        return [_floats(i) for i in item]
    if isinstance(item, dict):
        return {k: _floats(v) for k, v in item.items()}
    return float(item) if isinstance(item, int) and not isinstance(item, bool) and abs(item) < math.inf else item


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


def _explain(error: Any, path: tuple[str, ...]) -> str:
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        names = _siblings(path[:-1])
        return f"unknown key `{key}`; {_nearest(path[-1], names)}"
    if error["type"] == "missing":
        return f"`{key}` is missing"
    if error["type"] == "value_error":
        return f"`{key}`: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    received = repr(error["input"])
    return f"`{key}`: {error['msg'][0].lower()}{error['msg'][1:]}; received {received[:80]}"


def _siblings(path: Sequence[str]) -> list[str]:
    model: Any = Config
    for part in path:
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
