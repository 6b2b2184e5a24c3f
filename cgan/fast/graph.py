"""An update captured once as a CUDA graph and replayed, so that the GPU does not wait for Python between kernels.

Not measured on this project's reference machine, which has no GPU; ``tests`` compare it with the eager update on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Eager updates before the capture, on a stream of their own, as PyTorch demands: libraries initialise meanwhile.
WARM_UP = 3


class CapturedUpdate:
    """Calls ``update(lr, momentum)`` eagerly a few times, then captures it and replays the graph."""

    def __init__(self, update: Callable[[torch.Tensor, torch.Tensor], None], device: torch.device) -> None:
        """``update`` must read everything that changes from tensors that stay in place."""
        self.update, self.device = update, device
        # A graph repeats the numbers it was captured with; the rates change, so they lie on the device.
        self._rates = torch.zeros(2, device=device)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, lr: float, momentum: float) -> None:
        """Make one update."""
        self._rates[0].fill_(lr)
        self._rates[1].fill_(momentum)
        with torch.cuda.device(self.device):
            if self._calls < WARM_UP:
                self._on_side_stream()
            else:
                if self._graph is None:
                    self._graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self._graph):  # Records the kernels without running them.
                        self.update(*self._rates)
                self._graph.replay()
        self._calls += 1

    def _on_side_stream(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.update(*self._rates)
        torch.cuda.current_stream().wait_stream(stream)
