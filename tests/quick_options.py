"""Options that keep methods short which search or learn; for tests of what holds whatever is found."""

from __future__ import annotations

from typing import Any

ATTRIBUTION: dict[str, dict[str, Any]] = {
    "extremal_mask": {"steps": 4},
    "meaningful_perturbation": {"steps": 4},
    "expected_gradients": {"max_nodes": 8, "baselines": 2},
}
QUANTIZERS: dict[str, dict[str, Any]] = {
    "ptq161": {"epochs": 2},
    "requant": {"steps": 1, "nodes": 1},
}
