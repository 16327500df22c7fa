"""The parts of a plan that state facts: model, texts, budget, solver, results, provenance (see `schema`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

DIGEST_PATTERN = r"^[0-9a-f]{64}$"
FILE_NAME_PATTERN = r"^[^/\\]+$"
VERSION_PATTERN = r"^1\.[0-9]+\.[0-9]+$"
MOST_COLUMNS = 2**24


def _whole(value: Any) -> Any:
    """Refuse 4.0 and true, which a Literal of integers would take for 4 and 1."""
    if type(value) is not int:
        raise PydanticKnownError("literal_error", {"expected": "1, 2, 3, 4, 8 or 16"})
    return value


def _row_or_positive(value: int) -> int:
    if value != -1 and not 1 <= value <= MOST_COLUMNS:
        raise PydanticCustomError("group_size", "it should be a positive number of columns, or -1 for a whole row")
    return value


Bits = Annotated[Literal[1, 2, 3, 4, 8, 16], BeforeValidator(_whole)]
GroupSize = Annotated[
    int,
    AfterValidator(_row_or_positive),
    Field(json_schema_extra={"anyOf": [{"const": -1}, {"minimum": 1, "maximum": MOST_COLUMNS}]}),
]
Count = Annotated[int, Field(ge=0)]
Extent = Annotated[int, Field(ge=1, le=MOST_COLUMNS)]
Size = Annotated[int, Field(ge=1, le=2**54)]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
FileName = Annotated[str, Field(pattern=FILE_NAME_PATTERN)]
# One fault is enough to refuse a list; collecting a hundred thousand takes seconds.
Names = Annotated[tuple[str, ...], Field(strict=False, fail_fast=True)]


class Closed(BaseModel):
    """A part of a plan in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Open(BaseModel):
    """A part of a plan in which unknown keys are kept as they came."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class ModelFacts(Closed):
    """Which model the plan is for; a digest is null when its writer did not know it."""

    id: str
    revision: str | None = None
    architecture: str
    dtype: str
    config_sha256: Digest
    weights_sha256: Digest | None = None
    tokenizer_sha256: Digest | None = None
    hash_rule: str | None = None


class CalibrationFacts(Open):
    """The text that fed statistics, quantizers and the solver."""

    corpus: str
    text_sha256: Digest | None = None
    token_ids_sha256: Digest | None = None
    split: str | None = None
    n_sequences: Count | None = None
    seq_len: Count | None = None
    seed: int | None = None
    add_bos: bool | None = None


class EvaluationFacts(Open):
    """The text that measured the plan, and how: perplexities compare only where all of this is equal."""

    corpus: str
    text_sha256: Digest | None = None
    token_ids_sha256: Digest | None = None
    n_tokens: Count | None = None
    seq_len: Count | None = None
    stride: Count | None = None
    add_bos: bool | None = None
    ppl_kind: str = "token"


class Budget(Closed):
    """What was asked for and what counts towards it.

    `bits_per_weight` is the mean of stored bits over the tensors weighted by `numel`; `file_bytes` is what the tensors
    take together, with `other_bytes` for the parameters that no plan touches where they count. `solved` is what the
    solver reached, in the same unit; `measured_file` what a written file holds.
    """

    kind: Literal["bits_per_weight", "file_bytes"] = "bits_per_weight"
    requested: float = Field(gt=0)
    solved: float | None = Field(default=None, gt=0)
    measured_file: float | None = Field(default=None, gt=0)
    other_bytes: Count | None = None
    counted: Names = ("linear",)
    lm_head: Literal["excluded", "included"] = "excluded"
    embeddings: Literal["excluded", "included"] = "excluded"
    include_scales: bool = True
    include_zero_points: bool = True
    include_sparse_values: bool = True
    include_sparse_indices: bool = True
    unquantised_count_as_bits: Literal[16] = 16


class SolverFacts(Open):
    """How the widths were chosen.

    `bound` is a proven lower bound of the objective, `locks` what a person had fixed, `ties` the matrices that had to
    be alike and `tie_price` by how much the objective rose for it.
    """

    name: str
    version: str | None = None
    objective: str
    status: str
    value: float | None = None
    bound: float | None = None
    mip_gap: float | None = None
    seconds: float | None = None
    ties: Annotated[tuple[Names, ...], Field(strict=False, fail_fast=True)] = ()
    tie_price: float | None = None
    locks: dict[str, Bits] = Field(default_factory=dict)


class Salient(Closed):
    """Weights that are kept apart from the grid, and the mask that names them."""

    kind: str
    ratio: float = Field(ge=0, le=1)
    criterion: str
    value_dtype: str
    index_dtype: str | None = None
    mask_file: FileName | None = None
    mask_key: str | None = None
    mask_sha256: Digest | None = None


class Defaults(Open):
    """The scheme that most tensors share; for reading only, since every tensor spells its own scheme out."""

    method: str
    bits: Bits
    group_size: GroupSize
    symmetric: bool
    axis: Literal["in", "out"] = "in"
    scale_dtype: str = "float16"
    salient: Salient | None = None


class Measured(Closed):
    """What this tensor alone costs at this width; null where it was not measured. Losses and KL in nats a token."""

    weight_rel_fro: float | None = None
    output_rel_fro: float | None = None
    delta_loss: float | None = None
    delta_kl: float | None = None
    se: float | None = None
    n_tokens: Count | None = None


class AdditivePrediction(Open):
    """The sum over tensors of what each alone costs, beside what the whole plan was measured to cost (nats a token)."""

    delta_loss: float | None = None
    measured: float | None = None


class ResultFacts(Open):
    """What the whole plan was measured to cost on the evaluation text."""

    ppl_reference: float | None = None
    ppl_quantised: float | None = None
    ppl_se: float | None = None
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1_agreement: float | None = None
    additive_prediction: AdditivePrediction | None = None


class Provenance(Open):
    """Which program wrote the plan, on what."""

    tool: str | None = None
    git: str | None = None
    python: str | None = None
    torch: str | None = None
    transformers: str | None = None
    device: str | None = None
    threads: int | None = None
    seed: int | None = None
    exports: list[Any] = Field(default_factory=list)
