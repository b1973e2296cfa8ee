"""Layout: where `view` would refuse a tensor for its strides alone, it gives what `reshape` gives.

The scripts' augmentation crops one-channel images into a layout that a convolution of today hands on, and that the
`view` behind it refuses; the torch they were written for did not. The values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def install() -> None:
    """Give `Tensor.view` its second way, for the rest of the process."""
    real = torch.Tensor.view

    def view(tensor: Tensor, *shape: Any, **options: Any) -> Tensor:
        try:
            return real(tensor, *shape, **options)
        except RuntimeError as error:
            if "reshape" not in str(error):
                raise
            return tensor.reshape(*(shape or (options["size"],)))

    torch.Tensor.view = view  # type: ignore[method-assign, assignment]
