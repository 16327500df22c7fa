"""How a model is quantized: schemes completed, a walk through its blocks, finished parts kept on disk."""
