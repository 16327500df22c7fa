"""The report: whole and alone, its numbers those of the studies, nothing of a hostile model or prompt alive in it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from workbench import studies
from workbench.allocation.importing import import_plan
from workbench.allocation.plan import to_document
from workbench.model.load import LoadedModel
from workbench.progress import run
from workbench.report.findings import Findings
from workbench.report.markup import Html, tag
from workbench.report.page import page
from workbench.report.questions import label_of, questions, uniform
from workbench.studies.context import Context
from workbench.ui.numbers import number, percent, size

HOSTILE = '<script>alert(1)</script> $x^2$ & "red" <img src=x onerror=y> ball'
ORIGIN = {"made": "2026-01-01 00:00 UTC", "tool": "workbench 0", "seed": 0}
VOID = ("meta", "br", "col", "link", "img", "input", "hr")


class Reader(HTMLParser):
    """What a browser would find: elements, attributes, text; complains of elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(cells[1:] for cells in self.cells if cells and cells[0] == first)


@pytest.fixture(scope="session")
def asked_of(tiny_llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Findings]:
    """Findings on the tiny model by a choice, each computed once."""
    folder, context, known = tmp_path_factory.mktemp("texts"), Context(), {}
    for name, line in (("calibration", "the fox ran off. "), ("evaluation", "a cat sat by the door. ")):
        (folder / f"{name}.txt").write_text(line * 40)
    texts = {"text": str(folder / "evaluation.txt"), "calibration": str(folder / "calibration.txt")}
    texts |= {"tokens": 128, "window": 64}

    def found(choice: dict[str, Any]) -> Findings:
        key = json.dumps(choice, sort_keys=True)
        if key not in known:
            asked = questions({"model": str(tiny_llama_folder)}, choice, texts, HOSTILE, 5)
            held = {name: run(studies.start(*one, context)).document for name, one in asked.items()}
            known[key] = Findings(label=label_of(choice), **choice, **held, origin=ORIGIN)
        return known[key]

    return found


@pytest.fixture
def scheme_found(asked_of: Callable[..., Findings]) -> Findings:
    scheme = {"quantizer": "rtn", "bits": 3, "group_size": 32, "symmetric": False, "options": {}}
    return asked_of({"scheme": scheme, "plan": None})


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_it_stands_alone_and_nothing_in_it_runs(scheme_found: Findings) -> None:
    text = page(scheme_found)
    reader = read(text)
    names = {name for name, _ in reader.elements}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "form", "base", "a"}
    for name, attributes in reader.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(key) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)
    assert HOSTILE in "".join(reader.words)
    assert ("meta", {"charset": "utf-8"}) in reader.elements


def test_hostile_names_are_text(scheme_found: Findings) -> None:
    inspected, evaluated = copy.deepcopy([scheme_found.inspected, scheme_found.evaluated])
    inspected["model"]["id"] = HOSTILE
    for document in (inspected, evaluated):
        document["matrices"][0]["name"] = HOSTILE
    inspected["matrices"][0]["role"] = HOSTILE
    text = page(dataclasses.replace(scheme_found, inspected=inspected, evaluated=evaluated, label=HOSTILE))
    reader = read(text)
    assert not {name for name, _ in reader.elements} & {"script", "img"}
    assert "".join(reader.words).count(HOSTILE) > 6
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)


def test_drawings_are_well_formed_named_and_share_no_id(scheme_found: Findings) -> None:
    text = page(scheme_found)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        root = ET.fromstring(drawing)
        title = root.find("{http://www.w3.org/2000/svg}title")
        assert root.get("role") == "img"
        assert title is not None
        assert root.get("aria-labelledby") == title.get("id")
        assert len(title.text or "") > 40
    ids = [attributes["id"] for _, attributes in read(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10


def test_every_number_of_the_tables_is_that_of_a_study(scheme_found: Findings) -> None:
    reader, found = read(page(scheme_found)), scheme_found
    full, small, held = found.full, found.chosen, found.evaluated
    assert reader.row("as a file") == [size(one["stored_bytes"]) for one in (full, small)]
    assert reader.row("in memory, as it ran here") == [size(one["memory_bytes"]) for one in (full, small)]
    assert reader.row("perplexity") == [number(held["reference"]["perplexity"]), number(held["perplexity"])]
    assert reader.row("tokens written a second") == [number(one["tokens_per_second"]) for one in (full, small)]
    assert reader.row("stored bits a weight") == ["16.0", number(held["stored_bits"])]
    assert reader.row("same likeliest next token")[1] == percent(held["top1_agreement"], 3)
    for one in held["matrices"]:
        expected = [number(one[name]) for name in ("stored_bits", "weight_error", "output_error")]
        assert reader.row(one["name"]) == expected
    for point in found.compared["points"]:
        assert reader.row(point["label"])[:2] == [number(point["stored_bits"]), number(point["perplexity"])]
    row = small["reasons"]
    for place, (one, other) in enumerate(zip(row["full_scores"], row["quantized_scores"], strict=True), start=1):
        cells = next(cells for cells in reader.cells if len(cells) == 4 and cells[0].startswith(f"{place} "))
        assert cells[1:3] == [number(score, sign=True) for score in (one, other)]
    assert reader.row("rank correlation of all tokens (Spearman)") == [number(row["spearman"])]
    # two studies measured the same thing
    assert small["perplexity"] == pytest.approx(held["perplexity"], rel=1e-6)


def test_changed_words_are_marked_and_the_texts_are_whole(scheme_found: Findings) -> None:
    text = page(scheme_found)
    for one in (scheme_found.full, scheme_found.chosen):
        assert one["text"] == "".join(piece["text"] for piece in one["pieces"])
    marks = re.findall(r"<mark>", text)
    assert len(marks) == sum(piece["changed"] for piece in scheme_found.chosen["pieces"])


def test_a_plan_gets_its_chart_and_its_widths(asked_of: Callable[..., Findings], tiny_llama: LoadedModel) -> None:
    inspected = run(studies.inspection(tiny_llama)).document
    hand = {"default": {"bits": 4, "group_size": -1, "symmetric": True}, "model.layers.1.mlp.up_proj": 8}
    plan = to_document(import_plan(json.dumps(hand).encode(), inspected).plan)
    found = asked_of({"scheme": None, "plan": plan})
    reader = read(page(found))
    assert "Where the bits go" in reader.words
    for name, tensor in plan["tensors"].items():
        assert [str(tensor["bits"]), tensor["method"]] in [
            cells[1:] for cells in reader.cells if cells and cells[0] == name
        ]


def test_text_is_escaped_unless_it_is_html() -> None:
    assert tag("p", "<b>", None, Html("<i>"), class_='a"b') == '<p class="a&quot;b">&lt;b&gt;<i></p>'


def test_beside_a_fixed_width_stands_rtn() -> None:
    beside = uniform({"quantizer": "billm", "bits": None, "group_size": -1, "symmetric": False, "options": {}})
    assert [(one["scheme"]["quantizer"], one["scheme"]["bits"]) for one in beside] == [
        ("rtn", bits) for bits in (2, 3, 4, 8)
    ]
