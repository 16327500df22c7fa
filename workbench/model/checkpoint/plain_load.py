"""A program of its own: open a folder as anybody would, with transformers and nothing of ours, and compute logits.

Called with three paths: the folder, a safetensors file with `ids` `[sequence, token]`, the file to write `logits` to.
What it ran with is printed as one line of JSON.
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder: str, asked: str, answer: str, threads: str) -> None:
    """Open in the default mode, run, write."""
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        logits = model(input_ids=load_file(asked)["ids"], use_cache=False).logits
    save_file({"logits": logits.float().contiguous()}, answer)
    facts = {name: _version(name) for name in ("torch", "transformers", "compressed-tensors")}
    sys.stdout.write(json.dumps({**facts, "alone": not any(name.startswith("workbench") for name in sys.modules)}))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(*sys.argv[1:])
