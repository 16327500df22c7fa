"""Questions about maps themselves: which of several to believe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.ui.defaults.choices import (
    DEMO,
    LIKELIEST,
    PROMPT,
    Explained,
    Question,
    Spec,
    Texts,
    quantized_of,
    spec_of,
)
from workbench.ui.defaults.inputs import AGREED_TOP, explained_keys

ORDERS = 20
"""Random orders that maps are held against."""


def compare_attribution(
    model: str = DEMO,
    prompt: str = PROMPT,
    *,
    methods: Mapping[str, Mapping[str, Any]],
    explained: Explained = LIKELIEST,
    scheme: Spec | None = None,
    texts: Texts | None = None,
    **trial: Any,
) -> Question:
    """Which of several maps to believe; methods by name with their options.

    Keywords of the trial: `group`, `other_group`, `marked`, `measure`, `checks`, as the study has them.
    """
    asked = {"prompt": prompt, **explained_keys(explained), "methods": list(methods)}
    settings = {"options": {name: dict(options) for name, options in methods.items() if options}}
    usual = {"group": None, "other_group": None, "marked": None, "measure": "target", "checks": True}
    fixed = {"baseline": "auto", "orders": ORDERS, "top_k": AGREED_TOP, "seed": 0}
    return "compare_attribution", spec_of(
        model, **asked, **settings, **usual | trial, **fixed, **quantized_of(scheme, None, texts)
    )
