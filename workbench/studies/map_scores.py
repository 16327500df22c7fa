"""The numbers of one map: faithfulness among random orders, forecasts of removals, groups of tokens, marked spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float64
from torch import Tensor

from workbench.measures import faithfulness
from workbench.measures.faithfulness import RandomBand, Standing
from workbench.measures.forecasts import effects, halves, infidelity, sensitivity_n, subsets
from workbench.measures.map_similarity import aiou, entropy
from workbench.measures.plausibility import plausibility
from workbench.measures.rfxg import rfxg
from workbench.ordering import gini
from workbench.progress import Steps, within
from workbench.studies.removal import Measure, Removal

REMOVED_SETS = (1, 2, 4)
"""Sizes of the sets that sensitivity-n removes."""
HALVES = "halves"


@dataclass(frozen=True, slots=True)
class Groups:
    """Ids of next tokens that belong together: group A and group B of RFxG."""

    group: tuple[int, ...] = ()
    other: tuple[int, ...] = ()


class Judge:
    """Judges maps of one prompt; what does not depend on a map is measured once, by `prepare`.

    Args:
        removal: what the model says without some of the tokens.
        groups: for the metrics of groups.
        marked: units that a person marked.
        orders: random orders.
        seed: of the orders and sets.
        measure: what curves follow.
    """

    def __init__(
        self,
        removal: Removal,
        groups: Groups | None = None,
        marked: Bool[Tensor, " unit"] | None = None,
        orders: int = faithfulness.RANDOM_ORDERS,
        seed: int = 0,
        measure: Measure = "target",
    ) -> None:
        self.removal, self.groups, self.marked = removal, groups or Groups(), marked
        self.measure: Measure = measure
        self._followed = removal.measure(measure)
        self.orders, self.seed = orders, seed
        units = removal.units
        self._sets = {str(count): subsets(units, count, seed=seed) for count in REMOVED_SETS if count < units}
        self._sets[HALVES] = halves(units, seed=seed)
        self._effects: dict[str, Tensor] = {}
        self._band: RandomBand | None = None

    @property
    def band(self) -> RandomBand:
        """What random orders reach."""
        assert self._band is not None, "prepare() comes first"
        return self._band

    def prepare(self) -> Steps[None]:
        """Measure the random orders and sets."""
        removal, units = self.removal, self.removal.units
        drawn = {"orders": self.orders, "seed": self.seed}
        self._band = yield from within(
            removal.measured(
                lambda: faithfulness.random_band(self._followed, removal.probability, units, **drawn), "random orders"
            ),
            0.0,
            0.8,
        )
        self._effects = yield from within(
            removal.measured(
                lambda: {name: effects(removal.target_value, keep) for name, keep in self._sets.items()}, "random sets"
            ),
            0.8,
            1.0,
        )

    def judge(self, scores: Float64[Tensor, " tok"], *, signed: bool) -> Steps[dict[str, Any]]:
        """Every number of one map, NaN for what the prompt is too short for; `curves` holds deletion and insertion."""
        units = scores[self.removal.places]
        found = yield from self.removal.measured(lambda: self._of_removal(units), "removal in the order of the map")
        return {
            **found,
            "infidelity": infidelity(units, self._sets[HALVES], self._effects[HALVES]) if signed else None,
            "sensitivity_n": {
                name: sensitivity_n(units, keep, self._effects[name])
                for name, keep in self._sets.items()
                if name != HALVES
            },
            "gini": gini(units.abs()),
            "entropy": entropy(units),
            "plausibility": None if self.marked is None else self._against_marks(units, self.marked),
        }

    def _against_marks(self, units: Float64[Tensor, " unit"], marked: Bool[Tensor, " unit"]) -> dict[str, float]:
        """Plausibility, and the soft overlap of the sizes with the mark."""
        return {**plausibility(units, marked), "aiou": aiou(units, marked.double())}

    def _of_removal(self, units: Float64[Tensor, " unit"]) -> dict[str, Any]:
        """What needs the model, in one go."""
        removal, order = self.removal, faithfulness.order_of(units)
        deletion = faithfulness.deletion_curves(self._followed, order)
        insertion = faithfulness.insertion_curves(self._followed, order)
        comprehensiveness, sufficiency = faithfulness.removal_effects(removal.probability, order)
        areas = [float(faithfulness.areas(curve, removal.units)[0]) for curve in (deletion, insertion)]
        return {
            **dict(self._standings(*areas, float(comprehensiveness[0]), float(sufficiency[0]))),
            "rfxg": self._rfxg(units),
            "curves": {"deletion": deletion[0].tolist(), "insertion": insertion[0].tolist()},
        }

    def _standings(self, *values: float) -> Iterator[tuple[str, float]]:
        """Each number with its z and its percentile among random orders."""
        band = self.band
        others = (band.areas, band.areas, band.comprehensiveness, band.sufficiency)
        names = ("deletion", "insertion", "comprehensiveness", "sufficiency")
        for name, value, drawn in zip(names, values, others, strict=True):
            low = name in ("deletion", "sufficiency")
            found: Standing = faithfulness.standing(value, drawn, low_is_good=low)
            yield (f"{name}_auc" if drawn is band.areas else name), found.value
            yield f"{name}_z", found.z
            yield f"{name}_percentile", found.percentile

    def _rfxg(self, units: Float64[Tensor, " unit"]) -> dict[str, float]:
        """The metrics of groups that the classes allow."""
        removal = self.removal
        place = {token: number for number, token in enumerate(removal.classes)}
        ids = removal.target.token_ids
        return rfxg(
            removal.probabilities,
            units,
            place[ids[0]],
            contrast=place[ids[1]] if len(ids) > 1 else None,
            group=[place[token] for token in self.groups.group],
            other_group=[place[token] for token in self.groups.other],
        )
