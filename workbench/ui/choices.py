"""The choices that pages share: model, texts, a method with its options, a quantization, a prompt.

A control has the same key on every page, so that a choice stays when one turns the page, and the key is its name in the
address (`workbench.ui.address`). Controls of methods are drawn from the descriptions that the worker publishes; nothing
here knows a method by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from workbench import settings
from workbench.errors import WorkbenchError
from workbench.ui import added_texts, address, bundles, controls, defaults, method_options, session
from workbench.ui.defaults import DEMO, PROMPT, PROMPT_LIMIT, Spec, Texts
from workbench.ui.escape import markdown
from workbench.ui.quantization import scheme

__all__ = [
    "calibration_choices",
    "default_texts",
    "described",
    "method",
    "metrics",
    "model",
    "model_bar",
    "models",
    "of_full_weights",
    "prompt",
    "scheme",
    "text_choices",
    "texts",
]

MODEL_HELP = "The embedded demo model, a folder under WORKBENCH_MODELS, or a model known from an opened bundle."
DEMO_TEXTS = {"demo:calibration": "demo:calibration", "demo:evaluation": "demo:evaluation"}


def models() -> list[str]:
    """The models that are offered: the embedded one, the folders of the models folder, those of opened bundles."""
    embedded = [DEMO] if (settings.demo_folder() / "config.json").is_file() else []
    here = embedded + [name for name in settings.local_models() if name != DEMO]
    return here + [name for name in bundles.models() if name not in here]


def model_bar() -> None:
    """Draw the choice of the model; `app.py` calls this once a run, in the sidebar."""
    offered = models()
    if not offered:
        raise WorkbenchError(
            "There is no model to look at: this installation has no embedded model, and the environment variable "
            "WORKBENCH_MODELS names no folder with models in it."
        )
    controls.select("Model", offered, key="model", help=MODEL_HELP)


def model() -> str:
    """The chosen model."""
    return st.session_state["model"]


def text_choices(name: str) -> dict[str, str]:
    """Texts offered for a model, as shown -> as a TEXT name: the files in its folder, then the demo's texts."""
    folder = settings.local_models().get(name)
    if name == DEMO or folder is None:
        return bundles.texts(name) | DEMO_TEXTS
    files = [path for path in sorted(folder.glob("*.txt")) if _inside(path, folder)]
    return {path.name: str(path) for path in files} | DEMO_TEXTS


def calibration_choices(name: str) -> dict[str, str]:
    """Texts offered to calibrate with: those of `text_choices`, then those that a person put together on a page."""
    return text_choices(name) | added_texts.offered()


def default_texts(name: str) -> tuple[str, str]:
    """Calibration and evaluation text of a model, as shown, when nobody has chosen: two different ones."""
    offered = list(text_choices(name))
    calibration = _first(("calibration.txt", "demo:calibration"), offered)
    rest = [text for text in offered if text != calibration]
    return calibration, _first(("sampled.txt", "stories.txt", "evaluation.txt", "demo:evaluation"), rest)


def texts(*, measure: bool = True) -> Texts:
    """Draw the choice of texts in the sidebar.

    Args:
        measure: whether the page also measures on an evaluation text.

    Raises:
        WorkbenchError: the same text was chosen for both.
    """
    offered, feeding = text_choices(model()), calibration_choices(model())
    calibration, evaluation = default_texts(model())
    with st.sidebar, st.expander("Texts", expanded=False):
        seen = controls.select(
            "Calibration text", list(feeding), calibration, key="calibration", help="Feeds the statistics."
        )
        measured = evaluation
        if measure:
            measured = controls.select(
                "Evaluation text", list(offered), evaluation, key="text", help="Quality is measured on it."
            )
        tokens = controls.number("Tokens", defaults.TOKENS, key="tokens", low=256, high=1_000_000, step=256)
        window = controls.number("Window", defaults.WINDOW, key="window", low=16, high=4096, step=16)
    if measure and seen == measured:
        raise WorkbenchError(
            f"{seen!r} is chosen both to calibrate and to measure; choose two different texts in the sidebar."
        )
    return Texts(feeding[seen], offered[measured], tokens, window)


def method(
    kind: str, key: str, *, default: str, label: str = "Method", accepts: Callable[[dict[str, Any]], bool] | None = None
) -> tuple[str, Spec]:
    """Draw the choice of a method and of its options.

    Args:
        kind: `salience`, `quantizers` or `attribution`.
        key: name of the control, such as `metric`.
        default: name of the method chosen at first, if there is one of that name.
        label: what the control is called.
        accepts: which descriptions are offered; all by default.

    Returns:
        Its name, and those options that differ from their defaults.
    """
    offered = {name: one for name, one in session.descriptions(kind).items() if accepts is None or accepts(one)}
    chosen = controls.select(label, list(offered), default, key=key, help=_menu_help(kind))
    st.caption(markdown(offered[chosen]["summary"]))
    return chosen, method_options.folded(offered[chosen])


def metrics(*, every: bool = False) -> list[str]:
    """The salience metrics that look at the full weights and one text alone; or every one of them."""
    return [name for name, one in session.descriptions("salience").items() if every or of_full_weights(one)]


def of_full_weights(description: Spec) -> bool:
    """Whether a method needs neither a quantized model beside the full one nor a second text."""
    traits = description["traits"]
    return not (traits.get("compares_quantized") or traits.get("second_text"))


def described(kind: str, name: str) -> Spec:
    """What a method says of itself: summary, reference, note, options, traits."""
    return session.descriptions(kind)[name]


def prompt() -> str:
    """Draw the prompt and the examples below it; for an empty prompt the example stands in, and a sentence says so."""
    given = controls.area(
        "Prompt", PROMPT, key="prompt", limit=PROMPT_LIMIT, height=110,
        help="The model reads this and predicts the next token. Ctrl+Enter takes it over.",
    )  # fmt: skip
    _draw_examples(given)
    if not given.strip():
        st.info("The prompt is empty; the example prompt is used.")
        return PROMPT
    return given


def _draw_examples(current: str) -> None:
    """Example prompts that come with the embedded model, and what to look for in the one that is in the box."""
    examples = defaults.example_prompts()
    if not examples:
        return
    with st.popover("Example prompts", icon=":material/lightbulb:"):
        for place, one in enumerate(examples):
            st.button(
                markdown(one["text"]),
                key=f"example-{place}",
                on_click=address.put,
                args=("prompt", one["text"]),
                width="stretch",
            )
    note = next((one["note"] for one in examples if one["text"] == current), None)
    if note and model() == DEMO:
        st.caption(markdown(note))


def _menu_help(kind: str) -> str:
    return {"salience": "How a weight's importance is told.", "attribution": "How a token's importance is told."}.get(
        kind, "How bits are taken away."
    )


def _first(wanted: Sequence[str], offered: Sequence[str]) -> str:
    return next((name for name in wanted if name in offered), offered[0])


def _inside(path: Path, folder: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(folder)
