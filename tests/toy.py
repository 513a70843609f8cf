"""A problem that is not among those of the library: every n-th row of the picture is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invlib.problems.linear import LinearTask
from invlib.problems.operators import LinearOperator
from invlib.problems.spec import Knob


class EveryRow(LinearOperator):
    """Measurements are (batch, C, rows, W)."""

    def __init__(self, image_shape: Sequence[int], stride: int) -> None:
        super().__init__(image_shape)
        self.stride = stride
        channels, height, width = self.image_shape
        self.measurement_shape = (channels, -(-height // stride), width)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x[..., :: self.stride, :]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        x = torch.zeros(len(m), *self.image_shape, dtype=m.dtype, device=m.device)
        x[..., :: self.stride, :] = m
        return x


def every_row(shape: Sequence[int], *, stride: int) -> LinearOperator:
    return EveryRow(shape, stride)


TOY = LinearTask(
    operator=every_row,
    knobs=(Knob("stride", int, "Of how many rows one is measured.", "Rows", default=3, values=(2, 3, 4), least=1),),
)
