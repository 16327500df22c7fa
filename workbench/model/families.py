"""Which class of transformers a folder's config.json asks for: a language model or an encoder, told by `architectures`.

An encoder is a classifier of whole texts (`...ForSequenceClassification`) or a bare model whose hidden states stand for
a text, of a kind that transformers also trains on masked tokens; that its attention looks both ways is seen later, on
the model itself. Left out: encoders with a head for masked tokens, token labels or questions, decoders as classifiers,
and everything that reads more than text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers

from workbench.errors import WorkbenchError, shown
from workbench.model.tensor_files import refuse

Family = tuple[transformers.PreTrainedConfig, type[transformers.PreTrainedModel]]
"""A configuration and the class of model that it is of."""


def language_model(folder: Path, document: Mapping[str, Any]) -> Family:
    """The family of a decoder-only causal language model for text.

    Raises:
        WorkbenchError: an unknown model type, an encoder, or anything else.
    """
    config = _configuration(folder, document)
    found = _named(transformers.MODEL_FOR_CAUSAL_LM_MAPPING, config, document, or_unnamed=True)
    if found is not None and not found.__name__.endswith("ForConditionalGeneration"):
        return config, found
    encoder = _encoder_class(config, document)
    if encoder is not None:
        raise WorkbenchError(
            f"model {shown(folder.name)} is an encoder ({encoder.__name__}), which predicts no next token; Input"
            " attribution (`workbench attribute`, `compare-attribution`, `drift`) can look at it, nothing else"
        )
    raise _other(folder, document, "not a decoder-only language model for text")


def encoder(folder: Path, document: Mapping[str, Any]) -> Family:
    """The family of a classifier of texts, or of a bare model.

    Raises:
        WorkbenchError: an unknown model type, or neither.
    """
    config = _configuration(folder, document)
    found = _encoder_class(config, document)
    if found is None:
        raise _other(folder, document, "no encoder: neither a classifier (...ForSequenceClassification) nor a bare one")
    return config, found


def names_encoder(folder: Path, document: Mapping[str, Any]) -> bool:
    """Whether a configuration names a classifier of texts or a bare model.

    Raises:
        WorkbenchError: an unknown model type.
    """
    return _encoder_class(_configuration(folder, document), document) is not None


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Silence around transformers; whatever it raises, the folder is the cause, and one sentence says so."""
    log = transformers.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise WorkbenchError(f"model {shown(folder.name)} cannot be built from its files: {why}") from error
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def _configuration(folder: Path, document: Mapping[str, Any]) -> transformers.PreTrainedConfig:
    kind = document.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        refuse(
            folder / "config.json",
            f"has model_type {shown(kind)}, which transformers {transformers.__version__} does not know",
        )
    with understood(folder):
        return transformers.CONFIG_MAPPING[kind].from_dict(dict(document))


def _other(folder: Path, document: Mapping[str, Any], wanted: str) -> WorkbenchError:
    called = _claimed(document) or ["none"]
    where = f"config.json of model {shown(folder.name)}"
    return WorkbenchError(f"{where} has architecture {shown(called[0])}, which is {wanted}")


def _claimed(document: Mapping[str, Any]) -> list[Any]:
    named = document.get("architectures") or []
    return named if isinstance(named, list) else [named]


def _encoder_class(
    config: transformers.PreTrainedConfig, document: Mapping[str, Any]
) -> type[transformers.PreTrainedModel] | None:
    if type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
        return None
    mappings = (transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, transformers.MODEL_MAPPING)
    return next((found for kind in mappings if (found := _named(kind, config, document)) is not None), None)


def _named(mapping: Any, config: Any, document: Mapping[str, Any], *, or_unnamed: bool = False) -> Any:
    """The class of a mapping that `architectures` names, or that it could name where it is left out."""
    found = mapping.get(type(config), None)
    classes = found if isinstance(found, (tuple, list)) else [found]
    claimed = _claimed(document)
    return next(
        (one for one in classes if one is not None and (one.__name__ in claimed or (or_unnamed and not claimed))), None
    )
