"""The descent that every evaluation is trained by, by hand: for one network, or for a stack, each at its own rate.

For one network the bits are those of torch.optim.SGD, without what that does beside the arithmetic at each step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdc.evaluation.protocol import Protocol

RATE_DROP = 0.1  # the rate's factor, once, after epoch E // 2 + 1 (counted from 0)


class Descent:
    """Changes `parameters` in place. `rate` is a number, or [M] for parameters [M,...] of M networks."""

    def __init__(self, parameters: Sequence[Tensor], rate: float | Tensor, protocol: Protocol) -> None:
        self.parameters, self.rate, self.protocol = list(parameters), rate, protocol
        self.velocities: list[Tensor] = []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step down `gradients`, one for each parameter."""
        if self.protocol.weight_decay:
            slopes = list(torch._foreach_add(list(gradients), self.parameters, alpha=self.protocol.weight_decay))
        else:
            slopes = [gradient.clone() for gradient in gradients]
        if self.velocities:
            torch._foreach_mul_(self.velocities, self.protocol.momentum)
            torch._foreach_add_(self.velocities, slopes)
        else:
            self.velocities = slopes
        if isinstance(self.rate, Tensor):
            for parameter, velocity in zip(self.parameters, self.velocities, strict=True):
                parameter.addcmul_(velocity, self.rate.view(-1, *[1] * (parameter.ndim - 1)), value=-1)
        else:
            torch._foreach_add_(self.parameters, self.velocities, alpha=-self.rate)

    def end(self, epoch: int) -> None:
        """An epoch is over, the first being 0: the rate may drop, and then, as in the field's code, the momentum starts
        from zero.
        """
        if epoch == self.protocol.epochs // 2 + 1:
            self.rate = self.rate * RATE_DROP
            self.velocities = []
