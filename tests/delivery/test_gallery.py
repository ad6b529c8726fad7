"""The gallery: one page, every layer, nothing fetched and nothing run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from evosearch.delivery import gallery
from evosearch.delivery.gallery import GalleryError, page, write_gallery
from evosearch.language.library import KnownLayer, library, unsayable
from evosearch.meaning.facts import SavedTensors

VOID = {"meta", "br", "path"}
SOME = ("relu", "prelu", "swiglu", "evonorm_s0", "softmax", "binary_step", "helu", "identity")


class Reader(HTMLParser):
    """Tags, attributes and text of a page whose tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def some() -> str:
    return page({name: library()[name] for name in SOME}, unsayable())


def test_every_layer_is_there_with_its_formula_and_source(monkeypatch):
    monkeypatch.setattr(gallery, "_plot", lambda layer: "")
    monkeypatch.setattr(gallery, "described", lambda facts: [])
    facts = {"cost": 1, "parameters": (), "moments": None, "saved": SavedTensors(1, 1)}
    monkeypatch.setattr(gallery, "describe", lambda graph, brief: type("Facts", (), facts))
    read = Reader(page(library(), unsayable()))
    assert read.open == []
    assert {a["id"] for tag, a in read.tags if tag == "article"} == set(library())
    whole = "".join(read.text)
    for layer in library().values():
        assert layer.formula in whole
        assert layer.source in whole
    assert all(why in whole for why in unsayable().values())


def test_the_page_needs_nothing_and_runs_nothing(some):
    read = Reader(some)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "form", "input", "base"}
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "style")], tag
        assert str(attributes.get("href", "#")).startswith("#")
    assert "url(" not in some
    assert "@import" not in some
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.tags
    assert "prefers-color-scheme: dark" in some
    assert "@media print" in some
    targets = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {str(a["href"])[1:] for tag, a in read.tags if tag == "a"} <= targets


def test_every_plot_has_its_curve(some):
    for name in SOME:
        article = re.search(rf'<article id="{name}">.*?</article>', some, flags=re.DOTALL)[0]
        assert re.search(r'class="(own|dots)" d="M[^"]{200,}"', article), name
        assert re.search(r"<dt>cost</dt><dd>\d+</dd>", article)
        numbers = [float(n) for d in re.findall(r' d="([^"]*)"', article) for n in re.findall(r"-?\d+\.\d", d)]
        assert min(numbers) >= 0
        assert max(numbers) <= 240
    own = re.search(r'<article id="relu">.*?class="own" d="M([^"]*)"', some, flags=re.DOTALL)[1]
    heights = [float(point.split()[1]) for point in own.split("L")]
    assert len(set(heights[:100])) == 1  # 0 left of 0
    assert all(b <= a for a, b in pairwise(heights))
    assert heights[-1] < heights[0]


def test_what_is_shown_is_escaped():
    evil = KnownLayer("x", "activation", "sin(x)", 'a <script>alert(1)</script> "b"', aliases=("<b>",), note="<img src=x onerror=y>")
    text = page({"x": evil}, {"<i>": "<u>"})
    tags = {tag for tag, _ in Reader(text).tags}
    assert not tags & {"script", "img", "b", "u"}
    assert "&lt;script&gt;" in text


def test_a_folder_of_other_things_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "page", lambda layers, without: "<!DOCTYPE html>")
    assert write_gallery(tmp_path / "new" / "place").read_text() == "<!DOCTYPE html>"
    assert write_gallery(tmp_path / "new" / "place").name == "index.html"
    (tmp_path / "mine.txt").touch()
    with pytest.raises(GalleryError, match="other things"):
        write_gallery(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="pass another --to"):
        write_gallery(tmp_path / "file")
