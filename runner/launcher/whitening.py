"""Whitening: keeps the ZCA transform that a script fits with kornia, so that test images can be shown the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file


def install(path: Path) -> None:
    """From now on, the transform of every `ZCAWhitening.fit` goes to `path`: `mean` [d] and `matrix` [d, d], float32.

    An image x [C, H, W] in [0, 1], flattened, is shown as (x - mean) @ matrix.
    """
    import kornia  # takes a second, which scripts that whiten nothing need not spend

    real = kornia.enhance.ZCAWhitening.fit

    def fit(zca: Any, *arguments: Any, **options: Any) -> Any:
        fitted = real(zca, *arguments, **options)
        tensors = {"mean": zca.mean_vector.flatten(), "matrix": zca.transform_matrix}
        save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, path)
        return fitted

    kornia.enhance.ZCAWhitening.fit = fit  # type: ignore[method-assign, assignment]
