"""Several processes that train one network: who is one of how many, and what they tell each other.

The process of rank 0 runs the command and decides; the others wait for its word (`torch_crew`). Words go over a group
of processes of their own, whose waits have no end; sums of gradients over the group that the launcher's variables name.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tellapart.errors import RecipeError, TellapartError
from tellapart.learn.torch_devices import device_of
from tellapart.learn.torch_parcels import memory_format_of, open_parcel, parcel
from tellapart.learn.torch_together import Together
from tellapart.memory import out_of_memory

__all__ = ["ALONE", "Tally", "World", "detect"]

_MEET_SECONDS = 300.0  # for all processes to be there, and for each to do its share of a step
_FOREVER = timedelta(days=365)
_LOOK_SECONDS = 0.02  # how often a process that waits for work lets signals in
_VARIABLES = ("RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass
class Tally:
    """What a step adds up besides gradients: a mean loss in nats, and how many pictures were told right."""

    loss: float = 0.0
    hits: int = 0


@dataclasses.dataclass(eq=False)
class World:
    """This process is the one of `rank` among `size`, and computes on `device`; alone, all of this does nothing.

    `signalled` returns the number of a signal that this process was sent and has not told of yet.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    words: Any = None  # the group of processes that words go over
    lost: bool = False
    source: Any = dataclasses.field(default=None, repr=False)  # of the pictures that were sent last
    signalled: Callable[[], int | None] = dataclasses.field(default=lambda: None, repr=False)
    synced: bool = dataclasses.field(default=False, repr=False)

    def mine(self, start: int = 0) -> slice:
        """Return which of the pictures of a batch from `start` on are this process's: each `size`-th."""
        return slice((self.rank - start) % self.size, None, self.size)

    @contextlib.contextmanager
    def step(self, network: nn.Module) -> Iterator[Tally]:
        """Give a tally to fill while gradients are computed; afterwards both are the sums over all processes.

        Raises MemoryError in all of them where one had too little, TellapartError (`rank_lost`) where one is gone.
        """
        tally = Tally()
        if self.size == 1:
            yield tally
            return
        short, self.synced = False, False
        try:
            yield tally
        except BaseException as error:
            # Where batch norm is synchronised, others wait for numbers of this very moment, which will not come.
            if self.synced or not isinstance(error, Exception) or out_of_memory(error, "") is None:
                self.leave(error)
                raise
            short = True
        self._add_up(network, tally, short)

    def together(self, mine: slice, count: int) -> contextlib.AbstractContextManager[object]:
        """Let a network see those at `mine` of `count` pictures as part of the whole: its draws and its batch norm."""
        return contextlib.nullcontext() if self.size == 1 else Together(self, mine, count)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return values
        with self._reached():
            there = values.contiguous().cpu() if values.device.type == "mps" else values.clone().contiguous()
            distributed.all_reduce(there)
            return there.to(values.device)

    def _add_up(self, network: nn.Module, tally: Tally, short: bool) -> None:
        params = [p for p in network.parameters() if p.requires_grad]
        number = self.signalled() or 0
        signals = [float(one == number) for one in _SIGNALS]
        told = [tally.loss, float(tally.hits), float(short), *signals]
        there = [float(p.grad is not None and not short) for p in params]
        device = params[0].device if params else torch.device("cpu")
        parts = [torch.tensor(told + there, dtype=torch.float32, device=device)]
        parts += [torch.zeros_like(p) if p.grad is None or short else p.grad.float() for p in params]
        sums = self.total(torch.cat([part.reshape(-1) for part in parts]))
        numbers = sums[: len(told) + len(there)].tolist()
        tally.loss, tally.hits = numbers[0], round(numbers[1])
        if self.rank == 0:
            for count, one in zip(numbers[3:], _SIGNALS, strict=False):
                if count:
                    signal.raise_signal(one)
        if numbers[2]:
            raise MemoryError(f"{numbers[2]:.0f} of {self.size} processes had too little memory")
        at = len(numbers)
        for p, given in zip(params, numbers[len(told) :], strict=True):
            grad = sums[at : at + p.numel()].view(p.shape)
            p.grad = grad.to(p.dtype).contiguous(memory_format=memory_format_of(p)) if given else None
            at += p.numel()

    def say(self, word: object) -> None:
        """Tell all others an object; tensors in it travel as they are."""
        if self.size > 1 and not self.lost:
            with self._reached():
                parcel(word, self._send)

    def hear(self) -> Any:
        """Wait for what rank 0 says next, and return it; tensors that were on its device are on this one's."""
        first = iter([True])  # what follows comes at once: looking after it now and then would cost a look a tensor
        with self._reached():
            return open_parcel(lambda like: self._receive(like, patient=next(first, False)), self.device)

    def tell(self, *numbers: float) -> None:
        """Tell all others some numbers, as many as `told` expects."""
        if self.size > 1 and not self.lost:
            with self._reached():
                self._send(torch.tensor(numbers, dtype=torch.float64))

    def told(self, count: int) -> list[float]:
        """Return the numbers that rank 0 tells next."""
        with self._reached():
            found: list[float] = self._receive(torch.zeros(count, dtype=torch.float64), patient=False).tolist()
            return found

    def _send(self, values: Tensor) -> None:
        distributed.broadcast(values, 0, group=self.words)

    def _receive(self, like: Tensor, patient: bool) -> Tensor:
        work = distributed.broadcast(like, 0, group=self.words, async_op=True)
        assert work is not None  # it is None where this process is no member of the group
        while patient and not work.is_completed():
            time.sleep(_LOOK_SECONDS)
        work.wait()
        return like

    def leave(self, error: BaseException) -> None:
        """Leave the others, who are waiting and will be told by the broken connection; say why where that can be."""
        if self.lost or self.size == 1:
            return
        self.lost, self.words = True, None
        with contextlib.suppress(Exception):
            store = distributed.distributed_c10d._get_default_store()
            store.set("tellapart.left", f"process {self.rank} of {self.size} failed ({type(error).__name__}: {error})")
        _close()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Say in our words that another process is gone."""
        if self.lost:
            raise TellapartError("rank_lost", "Another process of this run is gone.", _GO_ON)
        try:
            yield
        except RuntimeError as error:
            why = f"the connection to another process broke: {str(error).splitlines()[0][:200]}"
            with contextlib.suppress(Exception):
                store = distributed.distributed_c10d._get_default_store()
                if store.check(["tellapart.left"]):
                    why = store.get("tellapart.left").decode(errors="replace")
            self.leave(error)
            raise TellapartError(
                "rank_lost", f"The {self.size} processes of this run lost touch: {why}.", _GO_ON
            ) from None


ALONE = World()
_GO_ON = "Start all of them again with --resume."
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def detect(device: str = "auto") -> World:
    """Return the world of this process: the live process group, one opened where WORLD_SIZE is above 1, or itself.

    To be called once, by all processes alike. Raises RecipeError (`world_incomplete`, `no_device`).
    """
    available = distributed.is_available()
    if not (available and distributed.is_initialized()):
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size <= 1:
            return World(device=device_of(device))
        _open(size, device)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    kind = device_of(device)
    if kind == "cuda":
        kind = f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % torch.cuda.device_count()}"
        torch.cuda.set_device(kind)
    return World(rank, size, kind, distributed.new_group(backend="gloo", timeout=_FOREVER))


def _open(size: int, device: str) -> None:
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise RecipeError(
            "world_incomplete",
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set, so that the processes cannot find each other.",
            "Start them with torchrun, or unset WORLD_SIZE to train in this process alone.",
        )
    backend = "cpu:gloo,cuda:nccl" if device_of(device) == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timedelta(seconds=_MEET_SECONDS))
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0][:200]
        raise TellapartError("rank_lost", f"The {size} processes of this run did not meet: {why}.", _GO_ON) from None
    atexit.register(_close)


def _close() -> None:
    """Part from the others before Python ends: threads that still run then abort the process."""
    if distributed.is_initialized():
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()
