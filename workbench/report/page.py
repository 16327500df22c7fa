"""The whole page: its head, its parts in their order, and the look that it carries along."""

from __future__ import annotations

from workbench.report import compared, reasons, summary
from workbench.report.findings import Findings
from workbench.report.markup import Html, tag, together

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load on this page's behalf: nothing; styles stand in the page."""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2530;--soft:#5a6673;--line:#c9d1d9;--box:#f3f6f9;--mark:#ffe2c2}
@media(prefers-color-scheme:dark){:root{--page:#12181f;--ink:#e8edf2;--soft:#a9b4bf;--line:#3a4652;--box:#1b242d;
--mark:#6b3a0a}}
body{background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;
padding:0 1rem;overflow-wrap:anywhere}
h1{line-height:1.2;margin-bottom:.2rem}h2{margin-top:2.4rem;border-bottom:1px solid var(--line)}
.soft,caption,figcaption,summary{color:var(--soft)}caption{text-align:left;padding:.3rem 0}
.box{background:var(--box);border:1px solid var(--line);border-radius:.5rem;padding:.2rem 1.2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:right;vertical-align:top}
th:first-child{text-align:left;min-width:11rem;font-weight:600}
thead th{overflow-wrap:normal;color:var(--soft);font-weight:600}
figure{margin:1rem 0}svg{max-width:100%;height:auto;color:var(--ink)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}
.text{white-space:pre-wrap;background:var(--box);border:1px solid var(--line);border-radius:.5rem;padding:.8rem}
mark{background:var(--mark);color:inherit;text-decoration:underline 2px}
.strip{display:flex;flex-wrap:wrap;gap:2px;margin:.3rem 0 1rem}
.strip span{color:#000;padding:0 .25rem;border-radius:2px;white-space:pre;border-bottom:0 solid #000}
summary{cursor:pointer;margin:.4rem 0}
@media print{:root{--page:#fff;--ink:#000;--soft:#444;--line:#bbb;--box:#fff;--mark:#fff}body{max-width:none;margin:0}
figure,.box,.text,tr{break-inside:avoid}h2{break-after:avoid}*{print-color-adjust:exact}}
"""


def page(found: Findings) -> str:
    """The report as one HTML document."""
    model = found.inspected["model"]["id"]
    title = f"{model} with fewer bits: {found.label}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "main",
        tag("h1", title),
        tag("p", f"What it saves, what it costs, and whether anybody would notice. Made {found.origin['made']}.",
            class_="soft"),
        summary.verdict(found),
        summary.facts(found),
        summary.quality(found),
        compared.errors(found),
        compared.plan(found),
        compared.widths(found),
        compared.texts(found),
        reasons.section(found),
        summary.origin(found),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + together([tag("html", head, tag("body", body), lang="en")]) + "\n"
