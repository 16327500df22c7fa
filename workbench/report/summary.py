"""What the report says first and last: the verdict, the model, sizes and quality, and where it all comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.report.findings import Findings
from workbench.report.markup import Html, table, tag
from workbench.ui.numbers import number, percent, plural, size
from workbench.ui.reasons_verdict import answer_light, reasons_light

CERTAIN = 2.0
"""Differences below this many standard errors are called noise."""

READ = ("corpus", "tokens", "window", "text_sha256", "token_ids_sha256")
IDENTITY = ("id", "revision", "architecture", "dtype", "config_sha256", "weights_sha256", "tokenizer_sha256")


def verdict(found: Findings) -> Html:
    """The whole in a few sentences."""
    sentences = (size_sentence(found), quality_sentence(found), text_sentence(found), reasons_sentence(found))
    listed = (tag("li", one) for one in (*sentences, worst_sentence(found)) if one)
    return tag("section", tag("h2", "In short"), tag("ul", *listed), class_="box")


def size_sentence(found: Findings) -> str:
    """What is saved on disk."""
    before, after = found.full["stored_bytes"], found.chosen["stored_bytes"]
    return (
        f"The model takes {size(after)} instead of {size(before)} as a file, {percent(after / before)} of it; a weight "
        f"of the quantized matrices takes {number(found.chosen['stored_bits'])} bits with its share of scales."
    )


def quality_sentence(found: Findings) -> str:
    """What is lost on the evaluation text."""
    after, before = found.evaluated["perplexity"], found.evaluated["reference"]["perplexity"]
    if after is None or before is None:
        return "Its loss on the evaluation text is not finite: the quantized model does not work."
    told = f"It hesitates between {number(after)} tokens instead of {number(before)} (its perplexity)"
    gap, error = found.evaluated["delta_loss"], found.evaluated["delta_standard_error"]
    if gap is not None and error is not None and abs(gap) < CERTAIN * error:
        return f"{told}, a difference that is within the noise of this text."
    return f"{told}; {percent(abs(after / before - 1))} {'worse' if after >= before else 'better'}."


def text_sentence(found: Findings) -> str:
    """Whether it writes the same."""
    held = found.chosen
    if held["ids"] == found.full["ids"]:
        return f"After the example prompt both models write the same {plural(len(held['ids']), 'token')}."
    start = held["same_start"]
    alike = f"agree for {plural(start, 'token')}" if start else "differ from the first token on"
    return (
        f"After the example prompt the two texts {alike}; "
        f"{held['changed_words']} of the quantized model's {plural(held['words'], 'word')} are not in the full model's."
    )


def reasons_sentence(found: Findings) -> str:
    """Whether answer and reasons are the same."""
    row, method, top_k = found.chosen["reasons"], found.written["method"], found.written["top_k"]
    answer, reasons = answer_light(row).words, reasons_light(row, method, top_k).words
    return f"For the token after that prompt: {answer}; {reasons}."


def worst_sentence(found: Findings) -> str | None:
    """Where most is lost."""
    known = [row for row in found.matrices if row["output_error"]]
    if not known:
        return None
    worst = max(known, key=lambda row: row["output_error"])
    return f"The outputs of {worst['name']} suffer most: their relative error is {number(worst['output_error'])}."


def facts(found: Findings) -> Html:
    """What the model is."""
    model, matrices = found.inspected["model"], found.inspected["matrices"]
    blocks = len({one["block"] for one in matrices if one["block"] is not None})
    held = sum(one["parameters"] for one in matrices)
    rows = [
        ("model", model["id"]),
        ("architecture", model["architecture"]),
        ("weights", f"{model['parameters']:,}"),
        ("of them in matrices that can be quantized", f"{held:,}"),
        ("such matrices", len(matrices)),
        ("blocks of layers", blocks),
        ("longest text, tokens", model["context"]),
        ("how it was quantized", found.label),
    ]
    return tag("section", tag("h2", "The model"), table("The model in numbers", ("", ""), rows))


def quality(found: Findings) -> Html:
    """Sizes, speed and quality of both models side by side."""
    pair = found.full, found.chosen
    base, held = found.evaluated["reference"], found.evaluated
    error = held["delta_standard_error"]
    lost = f"{number(held['delta_loss'], sign=True)} ± {number(error, 2)}"
    rows = [
        ("as a file", *(size(one["stored_bytes"]) for one in pair)),
        ("in memory, as it ran here", *(size(one["memory_bytes"]) for one in pair)),
        ("stored bits a weight", *(number(one["stored_bits"]) for one in pair)),
        ("tokens written a second", *(number(one["tokens_per_second"]) for one in pair)),
        ("perplexity", number(base["perplexity"]), number(held["perplexity"])),
        ("loss, nats a token", number(base["loss"]), number(held["loss"])),
        ("rise of the loss, and its standard error", "", lost),
        ("divergence from the full model (KL), mean nats", "", number(held["kl_mean"])),
        ("the same, worst hundredth of the tokens", "", number(held["kl_p99"])),
        ("same likeliest next token", "", percent(held["top1_agreement"], 3)),
    ]
    device = found.written["device"]
    ran = "packed codes" if found.chosen["packed"] else "the values that its codes stand for, as a dense model"
    told = (
        f"Speed is the median of {plural(len(found.chosen['runs']), 'run')} on {device['name']} "
        f"({device['processor']}) with {plural(device['threads'], 'thread')}: the full model in float32, "
        f"the quantized one from {ran}. As a file, everything that is not quantized counts 16 bits."
    )
    head = ("", "full precision", "quantized")
    listed = table("Sizes and quality of both models", head, rows)
    return tag("section", tag("h2", "Sizes and quality"), listed, tag("p", told, class_="soft"))


def origin(found: Findings) -> Html:
    """Program, computer, model and texts, with their digests."""
    model = found.inspected["model"]
    rows = [*_named(found.origin), *_named({f"model {name}": model[name] for name in IDENTITY})]
    rows += _named({f"evaluation {name}": found.evaluated["text"][name] for name in READ})
    if found.scheme is not None:
        rows += _named({f"quantization {name}": one for name, one in found.scheme.items()})
    if found.plan is not None:
        solver = found.plan.get("solver")
        rows += _named({"plan made": found.plan.get("created"), "plan solver": solver and solver.get("name")})
    asked = {"prompt": found.written["prompt"], "attribution method": found.written["method"]}
    rows += _named({**asked, "temperature": found.written["temperature"], "seed of the text": found.written["seed"]})
    return tag("section", tag("h2", "Where this comes from"), table("Origin of the numbers", ("", ""), rows))


def _named(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in given.items() if value not in (None, "", {}, [])]
