"""The options that commands share, in groups that go together (`grouping`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.errors import WorkbenchError, unknown
from workbench.usual import TOKENS

Mixed = Annotated[str, typer.Option("--quantizer", help="One quantizer, or several with commas that a plan may mix.")]
MixedOptions = Annotated[
    list[str] | None, typer.Option("--option", help="NAME=VALUE for every quantizer that has it; repeatable.")
]
GROUP_SIZE = 64


@dataclass(frozen=True)
class Source:
    """Which model."""

    model: words.Model
    allow_download: words.AllowDownload = False

    @property
    def spec(self) -> dict[str, Any]:
        """The keys of a study."""
        return asdict(self)


@dataclass(frozen=True)
class Texts:
    """What feeds statistics, and how much of a text is read."""

    calibration: words.Calibration = None
    tokens: words.Tokens = TOKENS
    window: words.Window = None

    @property
    def spec(self) -> dict[str, Any]:
        """The keys of a study."""
        return asdict(self)


@dataclass(frozen=True)
class BothTexts(Texts):
    """The same, and what measures."""

    text: words.EvaluationText = None


@dataclass(frozen=True)
class Uniform:
    """One scheme for all matrices."""

    quantizer: words.Quantizer = None
    bits: words.Bits = None
    group_size: words.GroupSize = None
    symmetric: words.Symmetric = False

    @property
    def chosen(self) -> bool:
        """Whether any part of it was given."""
        return self.symmetric or any(one is not None for one in (self.quantizer, self.bits, self.group_size))

    def scheme(self, options: dict[str, str] | None = None, usual: int = 4) -> dict[str, Any]:
        """As JSON with the defaults: rtn, `usual` bits or the most that the quantizer has, group 64, asymmetric.

        Raises:
            WorkbenchError: there is no such quantizer.
        """
        from workbench.registry import quantizers

        method = quantizers.get(self.quantizer or "rtn")
        widths = method.traits.get("widths", (usual,))
        width = None if method.traits.get("fixed_width") else usual if usual in widths else max(widths)
        return {
            "quantizer": method.name,
            "bits": width if self.bits is None else self.bits,
            "group_size": GROUP_SIZE if self.group_size is None else self.group_size,
            "symmetric": self.symmetric,
            "options": options or {},
        }


@dataclass(frozen=True)
class Choice(Uniform):
    """A choice of quantization: one scheme for all matrices, or a plan."""

    plan: words.Plan = None

    def spec(self, options: dict[str, str] | None = None, *, always: bool = False) -> dict[str, Any]:
        """The `scheme` and `plan` of a study; both None when nothing was chosen, unless there is `always` a scheme.

        Raises:
            WorkbenchError: a plan together with a quantizer or its parts, or what is no plan.
        """
        if self.plan is not None:
            if self.chosen:
                raise WorkbenchError("--plan names quantizer and bits of every matrix; give it alone")
            return {"scheme": None, "plan": words.read_plan_file(self.plan)}
        return {"scheme": self.scheme(options) if self.chosen or always else None, "plan": None}


@dataclass(frozen=True)
class Family:
    """A quantizer at several widths; the widths stand apart, since commands have defaults of their own."""

    quantizer: words.Quantizer = None
    group_size: words.GroupSize = None
    symmetric: words.Symmetric = False
    option: words.Options = None

    @property
    def spec(self) -> dict[str, Any]:
        """The keys of a study."""
        return {
            "quantizer": self.quantizer or "rtn",
            "group_size": GROUP_SIZE if self.group_size is None else self.group_size,
            "symmetric": self.symmetric,
            "options": words.parse_pairs(self.option, "--option"),
        }


@dataclass(frozen=True)
class Mix:
    """What a plan may choose from for each matrix."""

    quantizer: Mixed = "rtn"
    bits: words.Widths = "2,3,4,8"
    group_size: words.GroupSize = None
    symmetric: words.Symmetric = False
    option: MixedOptions = None

    @property
    def spec(self) -> dict[str, Any]:
        """The keys of a study that decides.

        Raises:
            WorkbenchError: widths that are no numbers, an unknown quantizer, or an option that none of them has.
        """
        names = words.listed(self.quantizer)
        return {
            "quantizers": names,
            "bits": words.parse_widths(self.bits),
            "group_size": GROUP_SIZE if self.group_size is None else self.group_size,
            "symmetric": self.symmetric,
            "options": _shared(words.parse_pairs(self.option, "--option"), names),
        }


def _shared(options: dict[str, str], names: list[str]) -> dict[str, dict[str, str]]:
    """Every option for each quantizer that has it."""
    from workbench.registry import quantizers

    known = {name: {option.name for option in quantizers.get(name).options} for name in names}
    for key in options:
        if not any(key in held for held in known.values()):
            every = sorted({name for held in known.values() for name in held})
            raise unknown(f"option of {', '.join(names)}", key, tuple(every) or ("(there are none)",))
    return {name: {key: value for key, value in options.items() if key in known[name]} for name in names}
