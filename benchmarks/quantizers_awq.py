"""AWQ: the published search for column scales, step for step, beside ours with the same losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
import transformers
from torch import Tensor, nn

import workbench
from benchmarks.measurement import Measurement
from workbench.model.accumulate import Accumulator
from workbench.model.block_task import BlockTask
from workbench.model.block_watch import call_of
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.texts import Windows
from workbench.model.walk import BlockWalk
from workbench.quantizers.arithmetic.awq_scales import (
    RATIOS,
    Levels,
    ScaleSearch,
    column_scales,
    search_linear,
    search_module,
)
from workbench.studies.context import Context

WIDTHS = (256, 1024)
TOKENS = {"linear": 4096, "mlp": 1024}
RUNS = 5
LEVELS = Levels(4, 128, False)


def measure() -> Iterator[Measurement]:
    """One measurement after the other; runs of the two searches are taken in turn."""
    for width in WIDTHS:
        yield _linear(width)
    for width in WIDTHS:
        yield _mlp(width)


def _linear(width: int) -> Measurement:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS["linear"], width, generator=generator)
    x *= torch.exp(torch.randn(width, generator=generator))
    layer = nn.Linear(width, width, bias=False).requires_grad_(False)
    layer.weight.copy_(0.02 * torch.randn(width, width, generator=generator))

    def ours() -> ScaleSearch:
        sums = Accumulator(width, {"gram", "mean_abs"}, torch.empty(0, dtype=torch.int64), torch.device("cpu"))
        sums.add(x, 0, len(x))
        found = sums.finish()
        assert found.gram is not None
        return workbench.run(search_linear(layer.weight, found.mean_abs, found.gram, LEVELS))

    name = f"AWQ scale search, linear {width}, {len(x)} tokens"
    return _compare(name, lambda: published_search(layer, [layer], x, x), ours, 1 / 3, "Gram matrix included")


def _mlp(width: int) -> Measurement:
    model = _random_llama(width)
    ids = torch.arange(TOKENS["mlp"]).reshape(4, -1) % 512
    walk = BlockWalk(model, Windows(ids, "numbers", "", "", ids.shape[1], ids.numel()))
    workbench.run(walk.open())
    block = walk.blocks[0]
    task = BlockTask(walk, block, block.matrices, {one.name: read_weight(model.model, one) for one in block.matrices})
    path = f"{block.path}.mlp"
    calls, names = [call_of(task, 0, path)], [f"{path}.gate_proj.weight", f"{path}.up_proj.weight"]
    x, mlp = calls[0][0], model.model.get_submodule(path)

    def ours() -> ScaleSearch:
        mean_abs = x.flatten(0, 1).abs().mean(0)
        return workbench.run(search_module(task, path, names, calls, mean_abs, LEVELS, RATIOS))

    readers = [one for name, one in mlp.named_children() if name in ("gate_proj", "up_proj")]
    note = "its output is not linear in its weights, so both run it 20 times; products take nearly all of the time"
    name = f"AWQ scale search, Llama MLP {width}, {ids.numel()} tokens"
    return _compare(name, lambda: published_search(mlp, readers, x, x.flatten(0, 1)), ours, None, note)


@torch.no_grad()
def published_search(module: nn.Module, readers: list[nn.Module], x: Tensor, rows: Tensor) -> ScaleSearch:
    """Scale, quantize and run the module on every token, for each exponent; then put its weights back."""
    full, mean_abs = module(x), rows.abs().mean(0)
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    losses = []
    for ratio in RATIOS:
        scale = column_scales(mean_abs, ratio)
        for weight in (reader.get_parameter("weight") for reader in readers):
            weight.mul_(scale)
            weight.copy_(rounded(weight, LEVELS) / scale)
        losses.append((module(x) - full).square().mean().item())
        module.load_state_dict(kept)
    best = RATIOS[losses.index(min(losses))]
    return ScaleSearch(best, column_scales(mean_abs, best), tuple(losses))


def rounded(weight: Tensor, levels: Levels) -> Tensor:
    """Quantized and dequantized group by group, zero within the range and the scale in fp16."""
    groups, most = weight.reshape(-1, levels.group_size), 2**levels.bits - 1
    low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
    step = ((high - low) / most).half().float().clamp(min=2.0**-24)
    inverse = 1 / step
    zero = (-low * inverse).round().clamp(0, most)
    codes = ((groups * inverse).round() + zero).clamp(0, most)
    return ((codes - zero) * step).reshape(weight.shape)


def _compare(
    name: str, theirs: Callable[[], ScaleSearch], ours: Callable[[], ScaleSearch], limit: float | None, note: str
) -> Measurement:
    """Processor time of ours over theirs, best of several runs in turn, because the machine is never quite alone."""
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    found: dict[str, ScaleSearch] = {}
    for _ in range(RUNS):
        for who, search in (("theirs", theirs), ("ours", ours)):
            started = time.process_time()
            found[who] = search()
            seconds[who].append(time.process_time() - started)
    pairs = zip(found["theirs"].losses, found["ours"].losses, strict=True)
    if found["theirs"].ratio != found["ours"].ratio or not all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs):
        raise RuntimeError(f"{name}: the two searches do not agree")
    slow, fast = min(seconds["theirs"]), min(seconds["ours"])
    note = f"{fast:.3f} s beside {slow:.3f} s published ({slow / fast:.1f} times), same losses; {note}"
    return Measurement(f"{name}, ours over published", fast / slow, "x", limit, note)


def _random_llama(width: int) -> LoadedModel:
    """One block of a Llama with random weights; only its sizes matter."""
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        vocab_size=512,
        max_position_embeddings=1024,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    held = Context().model("demo")
    return LoadedModel(model, held.tokenizer, held.identity, 1024, None)
