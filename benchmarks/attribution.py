"""Attribution on the embedded model, one thread: against Captum, memory against depth, and what the estimate is worth.

Times are seconds of the processor, the best of several runs taken in turn, because the machine is never quite alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
import transformers
from captum.attr import FeatureAblation, LayerIntegratedGradients
from torch import Tensor

import workbench
from benchmarks.live_tensors import LiveTensors
from benchmarks.measurement import Measurement
from workbench import costs
from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import Target
from workbench.model.load import LoadedModel
from workbench.registry import Method, attribution
from workbench.studies.attribute import attribute
from workbench.studies.context import Context

RUNS = 10
TOKENS, NODES = 128, 64
CAPTUM_BATCHES = (None, 16)
"""What Captum takes at a time; it is compared at the better one."""
DEPTHS = (2, 4, 8, 16)
STREAMING = ("attention", "attention_rollout", "norm_attention", "value_zeroing")
LENGTHS = (16, 64)


def measure() -> Iterator[Measurement]:
    """One measurement after the other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loaded = Context().model("demo")
        adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
        yield from _paths(adapter)
        yield _ablation(adapter)
        yield from _depth(adapter)
        yield _default(loaded, adapter)
        for length in LENGTHS:
            yield from _estimates(adapter, length)
    finally:
        torch.set_num_threads(threads)


def _paths(adapter: Adapter) -> Iterator[Measurement]:
    """Integrated gradients with the same nodes and baseline."""
    ids, erased, target = _prompt(adapter, TOKENS)
    method = attribution.get("integrated_gradients")
    theirs = LayerIntegratedGradients(_of_ids(adapter, target), adapter.table)
    asked: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: method(adapter, ids, target, baseline="eos", nodes=NODES, max_nodes=NODES).scores
    }
    for batch in CAPTUM_BATCHES:
        asked[f"Captum {batch or 'in one batch'}"] = lambda batch=batch: theirs.attribute(
            ids, baselines=erased, n_steps=NODES, method="gausslegendre", internal_batch_size=batch
        )
    seconds, found = _in_turn(asked)
    maps = {name: scores.double() if scores.ndim == 1 else scores[0].double().sum(-1) for name, scores in found.items()}
    gap = max(float((scores - maps["ours"]).abs().max()) for scores in maps.values())
    note = f"{NODES} nodes, {TOKENS} tokens; largest score {float(maps['ours'].abs().max()):.3g}"
    yield Measurement("integrated gradients, largest difference from Captum", gap * 1e6, "e-6", 10.0, note)
    yield _ratio("integrated gradients over Captum's LayerIntegratedGradients", seconds, 1.0)


def _ablation(adapter: Adapter) -> Measurement:
    """Occlusion of every token."""
    ids, erased, target = _prompt(adapter, TOKENS)
    theirs, method = FeatureAblation(_of_ids(adapter, target)), attribution.get("occlusion")

    def ablate() -> Tensor:
        with torch.no_grad():
            return theirs.attribute(ids, baselines=erased)

    seconds, found = _in_turn({"ours": lambda: method(adapter, ids, target, baseline="eos").scores, "Captum": ablate})
    gap = float((found["ours"] - found["Captum"][0].double()).abs().max())
    one = _ratio("occlusion over Captum's FeatureAblation", seconds, 1 / 3)
    return Measurement(one.name, one.value, one.unit, one.limit, f"{one.note}; scores differ by {gap:.1e} at most")


def _ratio(name: str, seconds: dict[str, float], limit: float) -> Measurement:
    ours = seconds.pop("ours")
    best = min(seconds, key=lambda one: seconds[one])
    note = f"{ours:.3f} s; " + ", ".join(f"{one} {spent:.3f} s" for one, spent in seconds.items())
    return Measurement(name, ours / seconds[best], "x", limit, note)


def _depth(adapter: Adapter) -> Iterator[Measurement]:
    """Bytes of tensors held at once by the methods that stream, against the number of layers."""
    for name in STREAMING:
        peaks = []
        for layers in DEPTHS:
            deep = Adapter(_random_model(layers), adapter.tokenizer)
            ids, _, target = _prompt(deep, 256, adapter)
            with LiveTensors() as live:
                attribution.get(name)(deep, ids, target)
            peaks.append(live.peak / 2**20)
        note = ", ".join(f"{layers} layers {peak:.2f} MiB" for layers, peak in zip(DEPTHS, peaks, strict=True))
        yield Measurement(
            f"memory of {name}, {DEPTHS[-1]} over {DEPTHS[0]} layers", peaks[-1] / peaks[0], "x", 1.05, note
        )


def _default(loaded: LoadedModel, adapter: Adapter) -> Measurement:
    """From the question to its result, as a page waits for it."""
    text = adapter.tokenizer.decode(_prompt(adapter, 64)[0][0, 1:].tolist())
    times = []
    for _ in range(3):
        began, busy = time.perf_counter(), time.process_time()
        document = workbench.run(attribute(loaded, prompt=text)).document
        times.append((time.process_time() - busy, time.perf_counter() - began))
    note = f"{document['method']}, {len(document['tokens'])} tokens, {document['nodes']} nodes; by the clock"
    note += f" {min(times)[1]:.3f} s beside whatever else ran"
    return Measurement("default attribution of a prompt of 64 tokens", min(times)[0], "s", 1.0, note)


def _estimates(adapter: Adapter, length: int) -> Iterator[Measurement]:
    """Real time beside the estimate, once with the speed to expect and once with the one that a run has shown."""
    ids, _, target = _prompt(adapter, length)
    config = adapter.model.config
    usual = costs.usual_speed(sum(one.numel() for one in adapter.model.parameters()), config.num_hidden_layers)
    asked = {one.name: _passes(one, adapter, ids) for one in attribution.methods()}
    real = {
        one.name: _in_turn({"": lambda one=one: one(adapter, ids, target)}, 2)[0][""] for one in attribution.methods()
    }
    shown = costs.measured_speed(usual, asked["smoothgrad"], tokens=length, measured=real["smoothgrad"])
    for speed, how in ((usual, "before any result"), (shown, "after one result of smoothgrad")):
        off = {}
        for name, spent in real.items():
            low, high = costs.seconds(asked[name], tokens=length, **asdict(speed))
            off[name] = max(spent / high, low / spent, 1.0)
        worst = sorted(off, key=lambda name: -off[name])[:4]
        note = "; ".join(f"{name} {off[name]:.2f} ({real[name]:.3f} s)" for name in worst)
        note += f"; median {statistics.median(off.values()):.2f}"
        yield Measurement(f"estimate of {length} tokens {how}, off by at most", max(off.values()), "x", 2.0, note)


def _passes(method: Method, adapter: Adapter, ids: Tensor) -> costs.Passes:
    config = adapter.model.config
    content = int((~adapter.held(ids)).sum())
    shape = {"layers": config.num_hidden_layers, "heads": config.num_attention_heads, "hidden": config.hidden_size}
    return costs.passes(method.describe(), tokens=content, **shape)


def _in_turn(asked: dict[str, Callable[[], Any]], runs: int = RUNS) -> tuple[dict[str, float], dict[str, Any]]:
    """The best seconds of each, and what it gave; each is run once before."""
    found = {name: work() for name, work in asked.items()}
    seconds = dict.fromkeys(asked, float("inf"))
    for _ in range(runs):
        for name, work in asked.items():
            began = time.process_time()
            found[name] = work()
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds, found


def _prompt(adapter: Adapter, length: int, reader: Adapter | None = None) -> tuple[Tensor, Tensor, Target]:
    """The beginning of the evaluation text, the same with end marks for words, and the likeliest next token."""
    text = (Context().model("demo").folder / "evaluation.txt").read_text(encoding="utf-8")[: 4 * length]
    ids = (reader or adapter).encode(text).ids[:, :length]
    erased = torch.full_like(ids, adapter.tokenizer.eos_token_id)
    held = adapter.held(ids)
    erased[0, held] = ids[0, held]
    likeliest = int(adapter.predict(ids).argmax())
    return ids, erased, Target("logit", (likeliest,), (adapter.vocabulary.text(likeliest),))


def _of_ids(adapter: Adapter, target: Target) -> Callable[[Tensor], Tensor]:
    """The target as Captum asks for it."""
    return lambda ids: target.value(adapter.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1])


def _random_model(layers: int) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1024, hidden_size=64, intermediate_size=192, num_hidden_layers=layers, num_attention_heads=4
    )
    return transformers.LlamaForCausalLM(config).eval()
