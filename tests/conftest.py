"""What all tests share: annotations enforced, no network, a cache folder of their own, and four kinds of model.

`tiny_llama` and `tiny_gpt2` are random models of two makes, byte-level tokenizers with them; a test that leaves one of
them changed fails. `shared_models` and `shared_corpora` are real ones that lie beside a developer's checkout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

# Triton reads this when it is first imported, which importing torch does not do.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
torch.set_num_threads(1)
install_import_hook("workbench", "typechecker.checked")

import layers  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from workbench.model.load import LoadedModel, load  # noqa: E402
from workbench.model.memory import bound_memory  # noqa: E402
from workbench.model.sites import SiteStatistics  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared"
SPECIAL = ("<s>", "</s>", "<unk>")
VOCABULARY = len(SPECIAL) + 256
TINY: dict[str, dict[str, Any]] = {
    # 172 is no multiple of a group: the last group of a row is short
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "opt": {
        "hidden_size": 64,
        "ffn_dim": 128,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "do_layer_norm_before": True,
        "tie_word_embeddings": True,
    },
}


@pytest.fixture(scope="session")
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_surroundings(_session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own cache and models, and one cache a test process."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(_session_cache))
    monkeypatch.delenv("WORKBENCH_MODELS", raising=False)


@pytest.fixture(autouse=True)
def _no_memory_bound() -> Iterator[None]:
    """A memory limit belongs to a process; tests share one, and what one of them set must not bind the next."""
    yield
    bound_memory(None)


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Real small models beside the checkout: `stories260K` and `classic-gpt2`."""
    return _shared("models")


@pytest.fixture(scope="session")
def shared_corpora() -> Path:
    """Real texts beside the checkout."""
    return _shared("corpora")


def _shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"shared/{name} does not lie beside the checkout")
    return SHARED / name


def byte_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A token a byte, behind three special tokens; `bos` puts <s> in front of every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def write_model(folder: Path, model_type: str, *, bos: bool = False, **settings: Any) -> Path:
    """Save a random model of a family and a tokenizer to a folder, in Hugging Face format."""
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    # large enough that its logits differ from token to token, unlike those of a fresh model
    spread = {"initializer_range": 0.1, "init_std": 0.1}
    config = AutoConfig.for_model(model_type, **{"vocab_size": VOCABULARY} | special | spread | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer(bos).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def statistics_of() -> Callable[[torch.Tensor], SiteStatistics]:
    """Statistics of inputs [tok, in], made by definition."""
    return layers.site_statistics


@pytest.fixture(scope="session")
def layer_s() -> layers.Layer:
    """The layer of the design's figures. Do not write to it."""
    return layers.layer_s()


@pytest.fixture(scope="session")
def make_model_folder() -> Callable[..., Path]:
    """`write_model`, for tests that need other sizes, other families or a folder to damage."""
    return write_model


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama: 2 blocks, hidden 64, MLP 172, 4 heads over 2, context 128, tied head. Do not write to it."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny-llama", "llama", bos=True, **TINY["llama"])


@pytest.fixture(scope="session")
def tiny_gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2: 2 blocks, hidden 64, MLP 256, 4 heads, context 128. Do not write to it."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny-gpt2", "gpt2", **TINY["gpt2"])


@pytest.fixture(scope="session")
def tiny_opt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random OPT: 3 blocks, hidden 64 behind projections from 32, MLP 128, 4 heads. Do not write to it."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny-opt", "opt", **TINY["opt"])


@pytest.fixture(scope="session")
def _session_llama(tiny_llama_folder: Path) -> LoadedModel:
    return load(str(tiny_llama_folder))


@pytest.fixture(scope="session")
def _session_gpt2(tiny_gpt2_folder: Path) -> LoadedModel:
    return load(str(tiny_gpt2_folder))


@pytest.fixture
def tiny_llama(_session_llama: LoadedModel) -> Iterator[LoadedModel]:
    """The random Llama of `tiny_llama_folder`, loaded."""
    yield from _left_as_it_was(_session_llama)


@pytest.fixture
def tiny_gpt2(_session_gpt2: LoadedModel) -> Iterator[LoadedModel]:
    """The random GPT-2 of `tiny_gpt2_folder`, loaded."""
    yield from _left_as_it_was(_session_gpt2)


def _left_as_it_was(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """Hand a model to a test, and fail the test if it comes back with other weights, hooks, flags or attention."""
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    attention = loaded.model.config._attn_implementation
    yield loaded
    after = loaded.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert [path for path, one in loaded.model.named_modules() if one._forward_pre_hooks or one._forward_hooks] == []
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.config._attn_implementation == attention
