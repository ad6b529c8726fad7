"""All that varies from one emitted module to the next: what emit works out and the templates write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evosearch.language.graph import Graph, Parameter


@dataclass(frozen=True)
class Moment:
    """One `mean(., batch)` of the forward: its node, the name it has in the code, and its running buffer."""

    node: Graph
    name: str
    buffer: str
    start: float
    is_variance: bool

    @property
    def is_input(self) -> bool:
        """Whether it is the mean of the input as it is."""
        return self.node.args[0].op == "input"


@dataclass(frozen=True)
class Pieces:
    """All that varies from one emitted module to the next."""

    graph: Graph
    name: str
    inputs: Sequence[str]
    params: Sequence[Parameter]
    forward: Sequence[Moment]
    backward: Mapping[str, bool]  # names of the backward's own batch means, and whether they are of what comes from above
    functions: Sequence[str]
    helpers: Sequence[str]
    layout: str  # how the functions see the input, see statements.LAYOUTS
    surrogate: bool
    unbiased: bool
    lean: bool
    slopes: bool  # whether the functions hold `_with_slopes`, the value and its slopes in one

    @property
    def folded(self) -> bool:
        return self.layout.startswith("folded")

    @property
    def lean_when_compiled(self) -> bool:
        """Whether torch.compile takes the lean backward too: with statistics, but none over the batch."""
        return self.folded and not self.forward

    @property
    def wide(self) -> bool:
        """Whether half precision is computed in float32, as the lean form does; one operator alone is torch's own in any type."""
        return self.layout == "row" or (self.layout == "flat" and self.lean)

    @property
    def whole(self) -> str:
        """The dimensions of batch and places, of the folded input."""
        return "(0, 2, 3)" if self.layout == "folded_row" else "(0, 2)"

    @property
    def weights(self) -> list[str]:
        return [p.name for p in self.params]
