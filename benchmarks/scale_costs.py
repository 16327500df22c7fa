"""What studies of large models cost, from shapes: operations, bytes, and seconds on a device.

The costs follow the code. A measured table (`sensitivity --by isolated`) resumes the forward in the changed block, so
that a cell costs the share of the model behind it; a part that a worker makes also pays for one whole forward, which
stands before its block. A table from gradients (`--by joint-path`) costs a forward and a backward at every node
of every width, whatever the number of matrices. Perplexity is one forward.

Here stand shapes, devices and what fits where; `scale_seconds` turns them into seconds. Nothing here is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.scheduling import Crew

WIDTHS = 4
MATRICES = 7
"""Quantizable matrices of a block: query, key, value, output, gate, up, down."""

PACKED = (2 + 3 + 4 + 8 + 4 * 0.5) / 8
"""Bytes a weight of all four widths as they are held, with scales and zero points of groups of 64."""

BYTES = 2
"""Bytes of a weight or an activation, bf16."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder of Llama's make."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def block(self) -> int:
        """Weights of a block's matrices."""
        narrow = self.hidden * self.hidden * self.kv_heads // self.heads
        return 2 * self.hidden * self.hidden + 2 * narrow + 3 * self.hidden * self.intermediate

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of all matrices with embedding and head."""
        return self.layers * self.block + 2 * self.head

    @property
    def cells(self) -> int:
        """Cells of a table at `WIDTHS` widths."""
        return self.layers * MATRICES * WIDTHS

    def operations(self, tokens: int, window: int, first: int = 0) -> float:
        """Floating-point operations of a forward from block `first` to the logits: products and causal attention."""
        blocks = self.layers - first
        products = 2.0 * tokens * (blocks * self.block + self.head)
        return products + 4.0 * tokens * window * self.hidden * blocks / 2

    def bytes_behind(self, first: int) -> float:
        """Bytes of the weights from block `first` to the head."""
        return BYTES * ((self.layers - first) * self.block + self.head)


@dataclass(frozen=True)
class Device:
    """One accelerator, or one group of them that holds a model together.

    Attributes:
        name: what it is called.
        operations: floating-point operations a second that are counted on.
        traffic: bytes a second of its own memory.
        memory: bytes of it.
        link: bytes a second from the host's memory.
    """

    name: str
    operations: float
    traffic: float
    memory: float
    link: float


@dataclass(frozen=True)
class Text:
    """How much is measured on: tokens, tokens of a window, tokens in one run of the model."""

    tokens: int
    window: int
    at_once: int


@dataclass(frozen=True)
class Place:
    """Where a run happens: how many machines with how many devices, and how fast a machine reads the shared folder."""

    name: str
    machines: int
    devices: int
    shared: float


@dataclass(frozen=True)
class Plan:
    """How a model is put on a place.

    Attributes:
        devices: that hold one copy together.
        workers: copies in all.
        streamed: block by block from the host, because even all devices of a machine together are too small.
        load: seconds until a machine's workers have the model: it is read from the shared folder once a machine.
        need: bytes of one copy on its devices.
    """

    devices: int
    workers: int
    streamed: bool
    load: float
    need: float


def plan(shape: Shape, place: Place, device: Device, text: Text, *, packed: bool = False) -> Plan:
    """Fewest devices a copy, as many copies as there is room for.

    Args:
        shape: the model.
        place: where it runs.
        device: one of the devices there.
        text: what is measured on.
        packed: whether a worker holds all quantized matrices at all widths beside the model, as a measured table does.
    """
    need = BYTES * shape.parameters + working(shape, text) + (PACKED * shape.layers * shape.block if packed else 0.0)
    usable = 0.92 * device.memory
    held = -(-need // usable)
    load = BYTES * shape.parameters / place.shared
    if held > place.devices:
        block = 2 * BYTES * shape.block + BYTES * shape.head + working(shape, text)
        return Plan(1, place.machines * place.devices, True, 0.0, block)
    return Plan(int(held), place.machines * (place.devices // int(held)), False, load, need)


def working(shape: Shape, text: Text) -> float:
    """Bytes beside the weights: logits of a run in fp32 twice, hidden states, one block's inner activations."""
    inner = 4 * shape.hidden + 3 * shape.intermediate
    return text.at_once * (8.0 * shape.vocab + BYTES * (inner + shape.hidden))


def crew_of(planned: Plan) -> Crew:
    """Workers as `workbench.cluster` runs them: two bunches in flight, about two seconds of work in a bunch."""
    return Crew(planned.workers, load=planned.load, in_flight=2, bunch_seconds=2.0, message=0.005)
