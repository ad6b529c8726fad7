"""What is going to change in a model: each place with its rule, and the places that are left, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from evosearch.delivery.swap.calibrate import Watched
from evosearch.delivery.swap.layer import obstacle
from evosearch.delivery.swap.report import Edits, Row
from evosearch.delivery.swap.rewrite import CannotRewrite, rewritten
from evosearch.delivery.swap.rules import Rule, SwapError, matches, nothing, others
from evosearch.delivery.swap.slots import Slot, modules
from evosearch.delivery.swap.trace import Seen, look

ALIASED = "in place, and its input is read again afterwards: those readers now see the values before it"


@dataclass(eq=False)
class Change:
    """A place and the rule it falls to. Of a pair, `behind` is the activation that falls away. `why` says why it is left."""

    rule: Rule
    slot: Slot
    behind: Slot | None = None
    why: str = ""
    becomes: str = ""
    unexplained: float | None = None
    scale: float | None = None
    seen: Watched | None = None

    @property
    def rewrites(self) -> bool:
        """Whether the forward has to change: for a call, and for an activation behind a norm that is called elsewhere too, or is a call."""
        act = self.behind
        return self.slot.how == "call" or (act is not None and (act.how != "module" or act.sites > 1 or len(act.names) > 1))

    def row(self) -> Row:
        """Its line in the report."""
        was = self.slot.label + (f" + {self.behind.label}" if self.behind else "")
        notes = tuple(note for note in (self.why, *self.slot.notes) if note)
        return Row(", ".join(self.slot.names), was, "" if self.why else self.becomes, self.rule.text, notes, self.unexplained, self.scale)


def find(model: nn.Module) -> tuple[list[Slot], Seen]:
    """All that can be swapped in a model, and what its forward says."""
    found = modules(model)
    seen = look(model, found)
    return [*found, *seen.calls], seen


class Plan:
    """The changes of a model. Raises SwapError for a rule that matches nothing."""

    def __init__(self, model: nn.Module, rules: list[Rule], functional: bool, inplace: bool) -> None:
        self.model, self.functional, self.inplace = model, functional, inplace
        slots, seen = find(model)
        self.slots = slots + others(rules, model, slots)
        self.changes: list[Change] = []
        taken: set[Slot] = set()
        for rule in rules:
            mine = self._of(rule, seen)
            if not mine:
                raise nothing(rule, model, self.slots)
            for change in mine:
                parts = {part for part in (change.slot, change.behind) if part is not None and (part is change.slot or part.sites == 1)}
                if not parts & taken:
                    self.changes.append(change)
                    taken |= parts

    def _of(self, rule: Rule, seen: Seen) -> list[Change]:
        if rule.is_pair:
            return list(self._pairs(rule, seen))
        mine = [Change(rule, slot) for slot in self.slots if matches(rule.key, slot, rule.layer)]
        kinds = {change.slot.kind for change in mine}
        if isinstance(rule.key, re.Pattern) and not rule.layer.kind and len(kinds) > 1:
            raise SwapError(f"rule `{rule.text}`: the expression finds {' and '.join(sorted(kinds))}; narrow it, or name a type")
        for change in mine:
            why = obstacle(rule, change.slot)
            if "calibrate=[x]" not in why:  # the channels may yet be seen
                change.why = why
            if change.rewrites and not self.functional and not change.why:
                change.why = f"a functional call ({change.slot.where}); functional='fx' rewrites it"
        return mine

    def _pairs(self, rule: Rule, seen: Seen) -> Iterator[Change]:
        """Norms with the activation right behind them."""
        first, second = rule.key
        for norm, act, together in seen.behind:
            if not matches(first, norm, rule.layer) or not matches(second, act, rule.layer):
                continue
            change = Change(rule, norm, act)
            where = f"a functional call ({act.where})" if act.how == "call" else f"`{act.name}`, which is called at {act.sites} places"
            if norm.sites > 1:
                change.why = f"the norm is called at {norm.sites} places"
            elif change.rewrites and not self.functional:
                change.why = f"the activation behind it is {where}; functional='fx' rewrites the forward"
            elif change.rewrites and not together:
                change.why = f"the activation behind it is {where}, in another module's forward"
            yield change

    def going(self) -> list[Change]:
        """The changes that can be made."""
        return [change for change in self.changes if not change.why]

    def check(self) -> None:
        """Raises SwapError for a rule none of whose places can get the layer."""
        for rule in {id(change.rule): change.rule for change in self.changes}.values():
            mine = [change for change in self.changes if change.rule is rule]
            if all(change.why for change in mine):
                raise SwapError(f"rule `{rule.text}` can replace none of the {len(mine)} places it matches; `{mine[0].slot.name}`: {mine[0].why}")

    def expose(self, edits: Edits) -> nn.Module:
        """Makes modules of the functions that go, and lets activations behind norms fall away. Returns the model, another one if its own forward changed."""
        model = self.model
        for owner in sorted(self._blocks(), key=lambda name: (name.count(".") + bool(name), name)):
            new = self._rewrite(owner, [change for change in self.going() if change.slot.owner == owner])
            if new is not None and owner:
                block = self.model.get_submodule(owner)
                for name in [name for name, module in self.model.named_modules(remove_duplicate=False) if module is block]:
                    put(model, name, new, edits)
            model = new if new is not None and not owner else model
        for change in self.going():
            if change.behind is not None and not change.rewrites:
                put(model, change.behind.name, nn.Identity(), edits)
            if change.slot.how == "attribute":
                put(model, change.slot.name, change.slot.old, edits)
            if change.slot.aliased:
                change.slot.note(ALIASED + ("" if self.functional else "; functional='fx' keeps what they saw"))
        self.check()
        return model

    def _blocks(self) -> set[str]:
        """The modules whose forward has to change."""
        return {change.slot.owner for change in self.going() if change.rewrites or change.slot.aliased} if self.functional else set()

    def _rewrite(self, owner: str, mine: list[Change]) -> nn.Module | None:
        """The block with another forward; None, with the reason at each change, where it cannot be had."""
        calls = [change.slot for change in mine if change.slot.how == "call"]
        dropped = {change.slot.name[len(owner) + bool(owner) :] for change in mine if change.behind is not None and change.rewrites}
        try:
            if not owner and self.inplace:
                raise CannotRewrite("inplace=True cannot change the forward of the model itself; leave it out, to get a copy")
            new = rewritten(self.model.get_submodule(owner), calls, dropped)
        except CannotRewrite as error:
            for change in mine:
                if change.rewrites:
                    change.why = str(error)
                elif change.slot.aliased:
                    change.slot.note(f"its readers cannot be rewritten: {error}")
            return None
        for change in mine:
            change.slot.aliased = False
        return new

    def rows(self) -> list[Row]:
        """The report: every place that a rule was about, then what else could be swapped."""
        said = {part for change in self.changes for part in (change.slot, change.behind)}
        rest = [slot for slot in self.slots if slot not in said]
        return [change.row() for change in self.changes] + [Row(", ".join(s.names), s.label, "", "", (s.why,) if s.why else ()) for s in rest]


def put(model: nn.Module, name: str, new: nn.Module, edits: Edits) -> None:
    """Puts a module at a qualified name."""
    owner, _, key = name.rpartition(".")
    edits.put(model.get_submodule(owner), key, new)
