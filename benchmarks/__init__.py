"""Speed and memory, measured on this machine: `python -m benchmarks`. Timings are no tests; they live here."""
