"""The question of `attribute` to an encoder: a class of a text or of two, or the closeness of a text to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from workbench.attribution.encoder_adapter import EncoderAdapter
from workbench.attribution.encoder_similarity import SimilarityAdapter
from workbench.attribution.encoder_targets import (
    OF_CLASSES,
    Classes,
    pose_class,
    pose_closeness,
    top_outputs,
    with_second,
)
from workbench.attribution.questions import Posed
from workbench.attribution.target_texts import split_kind
from workbench.errors import WorkbenchError, unknown
from workbench.model.encoder import LoadedEncoder, Pooling


def ask_encoder(
    loaded: LoadedEncoder, prompt: str, target: str | None, contrast: str | None, second: str | None
) -> Posed:
    """The model, the sequence and what is to be explained, chosen on the full model.

    Args:
        loaded: the encoder.
        prompt: the text.
        target: of a classifier a class, as of `encoder_targets`; of a bare encoder how the vector of a text is made,
            `mean` or `cls`, as its folder says when not given.
        contrast: another class; of a bare encoder another text than the second.
        second: of a classifier of pairs the second text, which has scores too; of a bare encoder the text that the
            prompt is compared with.

    Raises:
        WorkbenchError: no such class or pooling, or a bare encoder without a second text.
    """
    if not loaded.labels:
        return _ask_closeness(loaded, prompt, target, contrast, second)
    adapter = EncoderAdapter(loaded.model, loaded.tokenizer, loaded.context)
    classes = Classes(loaded.labels, loaded.exclusive)
    if second is None:
        return pose_class(adapter, classes, adapter.encode(prompt, cut=True), target or "", contrast)
    read = with_second(adapter.encode_pair(prompt, second), second)
    return pose_class(adapter.told(prompt, second), classes, read, target or "", contrast)


def _ask_closeness(
    loaded: LoadedEncoder, prompt: str, target: str | None, contrast: str | None, second: str | None
) -> Posed:
    if not second:
        raise WorkbenchError(
            f"model {loaded.identity.id!r} is a bare encoder ({loaded.identity.architecture}), which gives a text a"
            " vector, and what is explained is how close two texts are; give a second text (--second)"
        )
    kind, text = split_kind(target or "")  # pages put a measure in front; a cosine has one alone
    if kind not in OF_CLASSES or (text and text not in get_args(Pooling)):
        raise unknown("target of a bare encoder", target, get_args(Pooling))
    texts = (second, contrast) if contrast else (second,)
    if second == contrast:
        raise WorkbenchError("the second text and the contrast are the same; choose two that differ")
    pooling: Any = text or loaded.pooling
    adapter = SimilarityAdapter(loaded.model, loaded.tokenizer, texts, pooling, loaded.context)
    return pose_closeness(adapter, adapter.encode(prompt, cut=True), texts)


def likeliest_of(loaded: LoadedEncoder, posed: Posed) -> list[dict[str, Any]]:
    """The classes, likeliest first, or the texts, closest first, by the model as it is now."""
    outputs = posed.adapter.predict(posed.prompt.ids)
    exclusive = None if len(loaded.labels) < 2 else loaded.exclusive
    return top_outputs(loaded.labels or posed.target.texts, outputs, exclusive)


def refuse_next_token(asked: Mapping[str, Any]) -> None:
    """Refuse a question about what comes next, given as keyword -> value.

    Raises:
        WorkbenchError: one of the keywords is given.
    """
    for keyword, value in asked.items():
        if value:
            raise WorkbenchError(f"{keyword} is for language models, which predict a next token; an encoder does not")
