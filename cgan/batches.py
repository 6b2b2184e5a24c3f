"""A training set on the device, by index. Knows neither nets nor how the rows are chosen."""

from __future__ import annotations

from torch import Tensor

from cgan import CganError


class Examples:
    """The training set, held once, on the device: data x and conditions y, by index.

    ``x_index`` and ``y_index`` (examples,) say which rows of x and y make up each example, so that a row used by many
    examples is never copied; without them example i is row i of both. y is labels (n,) int64, vectors (n, d)
    float32, or None for no condition.
    """

    def __init__(
        self, x: Tensor, y: Tensor | None, x_index: Tensor | None = None, y_index: Tensor | None = None
    ) -> None:
        self.x, self.y, self.x_index, self.y_index = x, y, x_index, y_index
        self.count = len(x if x_index is None else x_index)
        y_count = self.count if y is None else len(y if y_index is None else y_index)
        if y_count != self.count:
            raise CganError(f"{self.count} data but {y_count} conditions: they must be as many")

    def data(self, rows: Tensor) -> Tensor:
        """x of the examples ``rows`` (..., n): (..., n, d)."""
        return _rows(self.x, rows if self.x_index is None else self.x_index[rows])

    def conditions(self, rows: Tensor) -> Tensor | None:
        """y of the examples ``rows``, or None."""
        if self.y is None:
            return None
        return _rows(self.y, rows if self.y_index is None else self.y_index[rows])


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)
