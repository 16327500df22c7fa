"""A model whose blocks have no weights in memory: each block reads its own when it runs, and gives them up afterwards.

The block parameters of such a model lie on the `meta` device. A block's forward puts weights from the files in their
place, runs, and takes them out again, so that every way of running the model works as it does on a model in memory: the
whole model, one block, one module of a block inside `present`. Parameters that somebody else has put in place
(`torch.func.functional_call`) are left alone. Backward passes hold no weights either: where autograd would keep one for
later, it keeps the place to read it from, and whatever hooks do happens once, as usual.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workbench.model.kept_places import kept_as_places
from workbench.model.stored_weights import StoredWeights

Laid = Mapping[str, Callable[[], Tensor]]
"""Parameter name -> makes the values that lie over the model's own, laid out as the model stores them."""


class WeightStream:
    """The weights of a model's blocks, a few blocks of them in memory at a time.

    Args:
        stored: the parameters of all blocks by their names in the model.
        blocks: paths of the blocks.
        room: bytes that blocks may take in memory; the block that runs is held whatever it takes.

    Attributes:
        reads: block -> how often weights of it were read from the files.
        laid: what lies over the model's own weights, the uppermost last; never changed, only exchanged.
    """

    def __init__(self, stored: StoredWeights, blocks: Mapping[str, Sequence[str]], room: int) -> None:
        self.stored = stored
        self.room = min(room, stored.bytes_of(name for names in blocks.values() for name in names))
        self.reads: Counter[str] = Counter()
        self.laid: tuple[Laid, ...] = ()
        self._block_of = {name: path for path, names in blocks.items() for name in names}
        self._held: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __deepcopy__(self, memo: Any) -> WeightStream:
        return self  # a copy of the model reads the same files

    def __contains__(self, name: str) -> bool:
        return name in self._block_of

    @property
    def held(self) -> tuple[str, ...]:
        """Blocks that have weights in memory now."""
        return tuple(self._held)

    def forget(self) -> None:
        """Hold no block any more."""
        self._held.clear()

    def shrink(self, room: int) -> None:
        """Hold blocks in so much room from now on."""
        self.room = room
        if self._held:
            self._make_room(next(reversed(self._held)), ())

    def values(
        self, names: Sequence[str], laid: tuple[Laid, ...] | None = None, *, hold: bool = True
    ) -> dict[str, Tensor]:
        """The values that parameters have now, or had when `laid` lay over them; not to be written to.

        Args:
            names: of the parameters.
            laid: what lies over them; None for what does now.
            hold: whether they stay in memory afterwards.
        """
        laid = self.laid if laid is None else laid
        above = {name: next((one[name] for one in reversed(laid) if name in one), None) for name in names}
        self._make_way(self.stored.bytes_of(name for name, made in above.items() if made is not None))
        own = self._own([name for name, made in above.items() if made is None], hold)
        return {name: own[name] if made is None else made() for name, made in above.items()}

    def reader(self) -> Callable[[str], Tensor]:
        """Gives the values that a parameter has while what lies over the model now does."""
        laid = self.laid
        return lambda name: self.values([name], laid)[name]

    def _own(self, names: Sequence[str], hold: bool) -> dict[str, Tensor]:
        """The model's own values of parameters, from memory where they are."""
        found = {}
        for path in dict.fromkeys(self._block_of[name] for name in names):
            mine = [name for name in names if self._block_of[name] == path]
            held = self._make_room(path, mine) if hold else dict(self._held.get(path, {}))
            missing = [name for name in mine if name not in held]
            self.reads[path] += bool(missing)
            held.update((name, self.stored.read(name)) for name in missing)
            found.update((name, held[name]) for name in mine)
        return found

    def _make_room(self, path: str, names: Sequence[str]) -> dict[str, Tensor]:
        """What is held of a block, after others have made room for these parameters of it.

        The last comers go first: passes go through all blocks in turn, and of those that went longest ago first, each
        would go right before it is wanted again.
        """
        held = self._held.pop(path, {})
        self._make_way(self.stored.bytes_of({*held, *names}))
        self._held[path] = held
        return held

    def _make_way(self, size: int) -> None:
        """Give blocks up until so many bytes more have room, as weights that lie over the model's own take them too."""
        while self._held and size and size + sum(map(self.stored.bytes_of, self._held.values())) > self.room:
            self._held.popitem()


def stream_of(module: nn.Module) -> WeightStream | None:
    """Where a model reads its blocks from; None for one that lies in memory."""
    return vars(module).get("weight_stream")


def is_streamed(module: nn.Module) -> bool:
    """Whether a model, or a block of one, reads its weights when it runs."""
    return stream_of(module) is not None


def parameter_of(model: nn.Module, name: str) -> Tensor:
    """The values of a parameter as they are now, wherever they lie; not to be written to, no gradient.

    It stands in for `model.get_parameter(name).detach()`, which gives a tensor without values for a streamed model.

    Args:
        model: the model, or any module of it.
        name: of the parameter, as seen from there.
    """
    here = model.get_parameter(name).detach()
    stream = stream_of(model)
    if stream is None or not here.is_meta:
        return here
    whole = ".".join(filter(None, (vars(model)["weight_path"], name)))
    return stream.values([whole], hold=False)[whole]


def let_go(model: nn.Module) -> None:
    """Hold no block of a model that is read block by block; the next that runs is read anew."""
    stream = stream_of(model)
    if stream is not None:
        stream.forget()


def held_bytes(model: nn.Module) -> int:
    """Memory that a model's weights take at most: those that lie there, and what its blocks may take."""
    stream = stream_of(model)
    lying = sum(one.nbytes for one in model.parameters() if not one.is_meta)
    return lying + (0 if stream is None else stream.room)


def attach(model: nn.Module, stream: WeightStream, blocks: Sequence[str]) -> None:
    """Let the blocks of a model read their weights when they run."""
    for path, module in model.named_modules():
        vars(module).update(weight_stream=stream, weight_path=path)
    for module in map(model.get_submodule, blocks):
        vars(module)["forward"] = partial(_forward, module)  # a deep copy of the block takes itself along in it


def _forward(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    with present(module):
        return type(module).forward(module, *arguments, **keywords)


@contextmanager
def present(block: nn.Module) -> Iterator[None]:
    """Have the weights of a block in place inside a `with` block; nothing happens for one that has them already.

    Args:
        block: the module of a block; modules inside it may be called as well then.
    """
    stream = stream_of(block)
    slots = [] if stream is None else _empty_slots(block)
    if stream is None or not slots:
        yield
        return
    empty = [owner._parameters[key] for owner, key, _ in slots]
    values = stream.values([name for _, _, name in slots])
    try:
        for owner, key, name in slots:
            owner._parameters[key] = nn.Parameter(values[name], requires_grad=False)
        with kept_as_places(values, stream.reader()) if torch.is_grad_enabled() else nullcontext():
            del values
            yield
    finally:
        for (owner, key, _), parameter in zip(slots, empty, strict=True):
            owner._parameters[key] = parameter


def _empty_slots(block: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Parameters without values: the module that holds one, its key there, its name in the model."""
    path = vars(block)["weight_path"]
    return [
        (module, key, ".".join(filter(None, (path, inner, key))))
        for inner, module in block.named_modules()
        for key, parameter in module._parameters.items()
        if parameter is not None and parameter.is_meta
    ]
