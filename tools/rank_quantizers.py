"""Rank all quantizers at equal stored bits on one model, and put the tables of what was measured into the README.

Every method is measured in several settings (width, groups, options; the list below). Within a budget of stored bits a
method stands for itself with the setting that uses most of the budget, chosen by its size alone and never by its
perplexity. Nothing is interpolated.

    python tools/rank_quantizers.py measure demo
    python tools/rank_quantizers.py measure ../models/stories260K --calibration calibration.txt --text sampled.txt
    python tools/rank_quantizers.py table        # README and docs/quantizers.md from the JSON files
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.settings import PROJECT

FOLDER = PROJECT / "docs" / "quantizers"
BUDGETS = (2.5, 3.5, 4.5)
SLACK = 0.05
"""A setting fits a budget that it exceeds by less than this: column scales and flags add a few hundredths of a bit."""
START, END = "<!-- ranking: start (tools/rank_quantizers.py table) -->", "<!-- ranking: end -->"


def settings() -> Iterator[dict[str, Any]]:
    """Every setting that is measured, as schemes."""

    def scheme(name: str, bits: int | None, group: int = 64, **options: Any) -> dict[str, Any]:
        return {"quantizer": name, "bits": bits, "group_size": group, "symmetric": False, "options": options}

    for name in ("rtn", "gptq", "awq", "hqq"):
        yield from (scheme(name, bits, group) for bits in (2, 3, 4) for group in (32, 64, -1))
    yield from (scheme("slim_llm", bits, group) for bits in (2, 3) for group in (32, 64))
    for bits in (2, 3):
        yield from (scheme("squeezellm", bits, -1), scheme("squeezellm", bits, -1, sensitive=0, outliers=0))
    for bits in (2, 3, 4):
        yield from (scheme("codebook", bits, -1), scheme("codebook", bits, -1, table="matrix"))
        yield from (scheme("compander", bits, group) for group in (32, 64))
        yield scheme("statsq", bits, -1)
        yield from (scheme("requant", bits, group, dense=dense) for dense in ("gptq", "awq") for group in (64, -1))
        yield scheme("kl_precalibration", bits, 64)
    yield from (scheme("billm", None), scheme("billm", None, centred=False), scheme("ptq161", None))
    yield from (scheme("pb_llm", None, salient=share) for share in (0.05, 0.1, 0.2, 0.3))
    yield from (scheme("output_optimal_binary", None, group, centred=c) for group in (32, -1) for c in (False, True))


def measure(model: str, calibration: str | None, text: str | None) -> None:
    """Measure every setting and write the model's JSON file."""
    import workbench
    from workbench import studies
    from workbench.errors import WorkbenchError
    from workbench.quantizers.driving.schemes import complete_scheme, label_of
    from workbench.studies.context import Context

    context, folder = Context(), Path(model)
    texts = {"calibration": calibration, "text": text}
    given = {key: str(folder / name) for key, name in texts.items() if name is not None}
    loaded, rows, found = context.model(model), [], {}
    for scheme in settings():
        try:
            label = label_of(complete_scheme(scheme))
        except WorkbenchError as error:
            print(error, flush=True)
            continue
        found = workbench.run(studies.evaluate(loaded, scheme=scheme, context=context, **given)).document
        keys = ("stored_bits", "nominal_bits", "perplexity", "standard_error", "delta_loss", "delta_standard_error")
        rows.append({"label": label, "scheme": scheme, **{key: found[key] for key in keys}})
        print(f"{label:55} {found['stored_bits']:.3f} {found['perplexity']:.3f}", flush=True)
    document = {
        "model": {"name": folder.name if given else model, "digest": found["model"]["digest"]},
        "texts": {
            key: name or f"demo:{'calibration' if key == 'calibration' else 'evaluation'}"
            for key, name in texts.items()
        },
        "reference": found["reference"],
        "tokens": found["tokens"],
        "window": found["window"],
        "rows": rows,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{document['model']['name']}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(PROJECT)}")


def within_budget(rows: list[dict[str, Any]], budget: float) -> list[dict[str, Any]]:
    """Of each method the setting with the most stored bits that fits, best perplexity first.

    ReQuant stands once for each quantizer below it. Of settings of one size the one with the most nominal bits stands.
    """
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["scheme"]["quantizer"], row["scheme"]["options"].get("dense", "")
        size = round(row["stored_bits"], 2), row["nominal_bits"]
        if row["stored_bits"] < budget + SLACK and (key not in best or size > best[key]["size"]):
            best[key] = {**row, "size": size}
    fits = [row for row in best.values() if row["stored_bits"] > budget - 1]  # half the bits are no fair comparison
    return sorted(fits, key=lambda row: row["perplexity"])


def table(document: dict[str, Any], budget: float) -> str:
    """One budget of one model as Markdown."""
    lines = ["| | method | stored bits | perplexity | rise of the loss, nats |", "|---|---|---|---|---|"]
    for place, row in enumerate(within_budget(document["rows"], budget), start=1):
        rise = f"{row['delta_loss']:+.4f} ± {row['delta_standard_error']:.4f}"
        lines.append(f"| {place} | {row['label']} | {row['stored_bits']:.3f} | {row['perplexity']:.3f} | {rise} |")
    return "\n".join(lines)


def documents() -> list[dict[str, Any]]:
    """What was measured, the embedded model first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    return sorted(found, key=lambda document: document["model"]["name"] != "demo")


def heading(document: dict[str, Any]) -> str:
    """What the tables of a model were measured on."""
    texts, reference = document["texts"], document["reference"]
    return (
        f"`{document['model']['name']}`, {document['tokens']:,} tokens of `{texts['text']}` in windows of "
        f"{document['window']}, calibrated on `{texts['calibration']}`; full model {reference['perplexity']:.3f}"
    )


def in_readme(budget: float = 3.5) -> str:
    """The part of the README: one budget, both models."""
    parts = [
        f"{heading(document)}, at most {budget:g} stored bits:\n\n{table(document, budget)}" for document in documents()
    ]
    return "\n\n".join(parts)


def page() -> str:
    """All budgets and all that was measured."""
    parts = ["# Quantizers at equal stored bits", "", __doc__.split("\n\n")[1], ""]
    for document in documents():
        parts += [f"## {heading(document)}", ""]
        for budget in BUDGETS:
            parts += [f"At most {budget:g} stored bits:", "", table(document, budget), ""]
        parts += [
            "All that was measured, by size:",
            "",
            "| setting | stored bits | nominal bits | perplexity |",
            "|---|---|---|---|",
        ]
        for row in sorted(document["rows"], key=lambda row: row["stored_bits"]):
            parts.append(
                f"| {row['label']} | {row['stored_bits']:.3f} | {row['nominal_bits']:.3f} | {row['perplexity']:.3f} |"
            )
        parts.append("")
    return "\n".join(parts)


def write_tables() -> None:
    """README and page, from the JSON files."""
    readme = PROJECT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(START)
    readme.write_text(f"{before}{START}\n{in_readme()}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    (FOLDER / "README.md").write_text(page(), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="measure every setting on a model")
    one.add_argument("model")
    one.add_argument("--calibration", help="file in the model's folder")
    one.add_argument("--text", help="file in the model's folder")
    commands.add_parser("table", help="write the tables")
    args = parser.parse_args()
    if args.command == "measure":
        measure(args.model, args.calibration, args.text)
    else:
        write_tables()


if __name__ == "__main__":
    main()
