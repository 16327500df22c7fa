"""Calibration and evaluation windows of a study: the embedded model has defaults, and the two stay apart."""

from __future__ import annotations

import dataclasses
import json

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.texts import Text, Windows, check_disjoint, make_windows, read_text
from workbench.settings import demo_folder

CALIBRATION_TOKENS = 8192
EVALUATION_TOKENS = 16384
WINDOW = 256
PROMPTS = "demo:prompts"


def text_name(loaded: LoadedModel, given: str | None, purpose: str) -> str:
    """The text for a purpose, `calibration` or `evaluation`; only the embedded model has defaults.

    Raises:
        WorkbenchError: another model and no text given.
    """
    if given is not None:
        return given
    if loaded.identity.id == "demo":
        return f"demo:{purpose}"
    flag = "--calibration" if purpose == "calibration" else "--text"
    raise WorkbenchError(
        f"model {loaded.identity.id!r} has no default {purpose} text; give one with {flag}: a path to a UTF-8 file, "
        "demo:calibration, demo:evaluation or wikitext-2"
    )


def calibration_windows(loaded: LoadedModel, name: str | None, tokens: int | None, window: int | None) -> Windows:
    """Windows of the calibration text: 256 tokens each and 8192 in all unless told otherwise."""
    text = read_text(text_name(loaded, name, "calibration"))
    return _windows(loaded, text, tokens or CALIBRATION_TOKENS, window)


def evaluation_windows(loaded: LoadedModel, name: str | None, tokens: int | None, window: int | None) -> Windows:
    """Windows of the evaluation text: 256 tokens each and 16384 in all unless told otherwise."""
    text = read_text(text_name(loaded, name, "evaluation"))
    return _windows(loaded, text, tokens or EVALUATION_TOKENS, window)


def windows_after(loaded: LoadedModel, name: str | None, used: int, tokens: int, window: int | None) -> Windows:
    """The windows of the calibration text that follow its first `used` tokens, `tokens` of them at most.

    Raises:
        WorkbenchError: fewer than two are left.
    """
    whole = calibration_windows(loaded, name, used + tokens, window)
    rest = whole.ids[used // whole.window :]
    if len(rest) < 2:
        raise WorkbenchError(
            f"calibration text {whole.name!r} has {len(rest)} windows of {whole.window} tokens after the first {used} "
            "tokens; two are needed to confirm a plan on text that it was not solved on"
        )
    return dataclasses.replace(whole, ids=rest, tokens=rest.numel())


def second_windows(loaded: LoadedModel, name: str | None, tokens: int | None, window: int | None) -> Windows:
    """Windows of a second text, such as a passage: all of it, in as few equal windows of at most 256 as hold it.

    On the embedded model the default is `demo:prompts`, its example prompts, which neither feed the statistics nor
    measure.

    Raises:
        WorkbenchError: another model and no text given, or a text of a single token.
    """
    if name is None and loaded.identity.id != "demo":
        raise WorkbenchError(
            f"model {loaded.identity.id!r} has no default second text; give one with --text2: a path to a UTF-8 file, "
            f"{PROMPTS}, demo:calibration, demo:evaluation or wikitext-2"
        )
    text = _demo_prompts() if name in (None, PROMPTS) else read_text(name)
    cap = tokens or CALIBRATION_TOKENS
    held = make_windows(text, loaded.tokenizer, window=2, tokens=max(2, cap), context=loaded.context).tokens
    longest = min(WINDOW if window is None else window, loaded.context)
    length = held // -(-held // longest) if window is None else min(longest, held)
    return _windows(loaded, text, held, length)


def _demo_prompts() -> Text:
    """The example prompts of the embedded model, a document each."""
    held = json.loads((demo_folder() / "prompts.json").read_text(encoding="utf-8"))
    return Text(PROMPTS, tuple(prompt["text"] for prompt in held["prompts"]))


def keep_apart(loaded: LoadedModel, calibration: str | None, text: str | None) -> None:
    """Refuse to measure on the text that fed the statistics."""
    check_disjoint(
        read_text(text_name(loaded, calibration, "calibration")), read_text(text_name(loaded, text, "evaluation"))
    )


def _windows(loaded: LoadedModel, text, tokens: int, window: int | None) -> Windows:
    window = min(WINDOW, loaded.context) if window is None else window
    return make_windows(text, loaded.tokenizer, window=window, tokens=tokens, context=loaded.context)


def describe(windows: Windows) -> dict[str, object]:
    """The facts of a text that a plan records; a path is cut to its file name."""
    return {
        "corpus": windows.name.replace("\\", "/").rsplit("/", 1)[-1],
        "text_sha256": windows.text_sha256,
        "token_ids_sha256": windows.token_ids_sha256,
        "n_sequences": len(windows.ids),
        "seq_len": windows.window,
        "tokens": windows.tokens,
        "window": windows.window,
    }
