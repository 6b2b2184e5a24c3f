"""An update captured once as a CUDA graph and replayed, so that the GPU does not wait for Python between kernels.

Not measured on this project's reference machine, which has no GPU; ``tests`` compare it with the eager update on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cgan.fast.update import FastBatch

#: Eager updates before the capture, on a stream of their own, as PyTorch demands: libraries initialise meanwhile.
WARM_UP = 3


class CapturedUpdate:
    """Calls ``update(batch, lr, momentum)`` eagerly a few times, then captures it and replays the graph."""

    def __init__(self, update: Callable[[FastBatch, Tensor, Tensor], None], device: torch.device) -> None:
        self.update, self.device = update, device
        # A graph reads the memory that it was captured with: batches are copied there, and rates lie on the device.
        self._batch: FastBatch | None = None
        self._rates = torch.zeros(2, device=device)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: FastBatch, lr: float, momentum: float) -> None:
        """Make one update."""
        if self._batch is None:
            self._batch = batch
        for name, tensor in vars(batch).items():
            if tensor is not None:
                getattr(self._batch, name).copy_(tensor)
        self._rates[0].fill_(lr)
        self._rates[1].fill_(momentum)
        with torch.cuda.device(self.device):
            if self._calls < WARM_UP:
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    self.update(self._batch, *self._rates)
                torch.cuda.current_stream().wait_stream(stream)
            else:
                if self._graph is None:
                    self._graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self._graph):  # Records the kernels without running them.
                        self.update(self._batch, *self._rates)
                self._graph.replay()
        self._calls += 1
