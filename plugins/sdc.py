"""Sample Difficulty Correction: one loss term, the gradient norm of the synthetic images, that favours easier samples.

With S the synthetic images and their labels, theta the network's parameters, t the step of the distillation:

    L(S) = L_match(S) + lambda(t) * D(S),    D(S) = || grad_theta loss(S; theta) ||_2   over all parameters, flattened

Method: arXiv 2408.12483, whose abstract measures sample difficulty by the gradient norm. The abstract gives no formula;
the form above, the schedules, the interval and the way the term is averaged (a class at a time where the method
matches classes, the mean over the inner steps where it matches trajectories) are this project's reading of it.

A patched script imports this file, or carries a copy of it: it needs torch alone. At weight 0 nothing is computed and
every function returns the very object it was given, so that the script's bits are the original's.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: progress,
    "log": lambda progress: math.log1p(9.0 * progress) / math.log(10.0),
}
"""What lambda is multiplied by, as a function of progress in [0, 1]; each ramp starts at 0 and ends at 1."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a script `--sdc_lambda` (the weight, 0 by default: the term is off), `--sdc_schedule` and `--sdc_every`."""
    parser.add_argument("--sdc_lambda", type=weight, default=0.0, help="weight of the SDC term; 0 turns it off")
    parser.add_argument(
        "--sdc_schedule",
        choices=sorted(SCHEDULES),
        default="constant",
        help="ramp of the weight over the run",
    )
    parser.add_argument(
        "--sdc_every", type=interval, default=1, help="K: the term only at every K-th step, with K times the weight"
    )


def weight(text: str | float) -> float:
    """Read a weight: a finite number, zero or positive. Anything else is an error that says so."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise argparse.ArgumentTypeError(f"the SDC weight must be a finite number >= 0, got {text!r}")
    return value


def interval(text: str | int) -> int:
    """Read an interval: a whole number of steps, 1 or more. Anything else is an error that says so."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"the SDC interval must be a whole number >= 1, got {text!r}")
    return value


def weight_at(options: argparse.Namespace, step: int, last_step: int) -> float:
    """lambda(t): the weight at `step` of 0..`last_step` under the script's `--sdc_lambda`, schedule and interval K.

    Steps that K does not divide have weight 0, the others K times the weight: on the average over the steps, the same.
    """
    every = interval(options.sdc_every)
    if step % every:
        return 0.0
    progress = min(max(step / last_step, 0.0), 1.0) if last_step > 0 else 1.0
    return every * weight(options.sdc_lambda) * SCHEDULES[options.sdc_schedule](progress)


def gradient_norm(gradient: Tensor | Iterable[Tensor]) -> Tensor:
    """D: the L2 norm of a gradient, one tensor or one a parameter, as if flattened to a single vector.

    Returns a scalar that can be differentiated; its derivative at a zero gradient is 0, not NaN.
    """
    parts = [gradient] if isinstance(gradient, Tensor) else list(gradient)
    norms = torch.stack([torch.linalg.vector_norm(part) for part in parts])
    return cast("Tensor", torch.linalg.vector_norm(norms))


Logits = Callable[[Any], Tensor]
"""Takes the logits [n, classes] out of what a network returns."""


def class_gradient(
    net: nn.Module, images: Tensor, label: int, logits: Logits = lambda returned: returned
) -> tuple[Tensor, ...]:
    """The gradient of the mean cross entropy of one class's images, with respect to every parameter of `net`.

    For methods whose network is frozen (DM): the parameters are taken as leaves of their own, so that `net` stays as
    it is, and the result keeps its graph back to `images` [n, C, H, W]. DataParallel is unwrapped. `label` and `logits`
    are those of `corrected_frozen`.
    """
    number = _class_number(label)
    bare: nn.Module = net.module if isinstance(net, nn.DataParallel) else net
    leaves = {name: value.detach().requires_grad_() for name, value in bare.named_parameters()}
    found = _checked(logits(torch.func.functional_call(bare, leaves, (images,))), images, number)
    labels = torch.full((images.shape[0],), number, dtype=torch.long, device=images.device)
    loss = nn.functional.cross_entropy(found, labels)
    # A parameter that the logits do not reach has a zero gradient.
    return torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)


def class_norm(net: nn.Module, images: Tensor, label: int, logits: Logits = lambda returned: returned) -> Tensor:
    """D of one class's images [n, C, H, W] for a frozen `net`: a scalar with D's gradient in the images, and no other.

    The gradient is taken here and now, for the images alone: a backward pass through D's own graph would take one for
    every parameter, too, and the graphs of all classes would be held until then.
    """
    own = images.detach().requires_grad_()
    norm = gradient_norm(class_gradient(net, own, label, logits))
    (slope,) = torch.autograd.grad(norm, own)
    return norm.detach() + (slope * (images - own.detach())).sum()  # the sum is 0, its derivative the slope


def corrected(
    loss: Tensor | float,
    gradient: Tensor | Iterable[Tensor],
    options: argparse.Namespace,
    step: int,
    last_step: int,
    share: float = 1.0,
) -> Tensor | float:
    """`loss` + share * lambda(t) * D, for a method that already holds the synthetic gradient with its graph.

    `loss` is one number. `gradient` is what torch.autograd.grad gives with create_graph=True: one tensor a parameter,
    or all of them in one. DC and DSA add it to the loss of each class. MTT, FTD and DATM sum it over the inner steps,
    from 0.0, with `share` 1 by their number, and add the sum to their loss. TypeError: something else is given.
    """
    factor = share * weight_at(options, step, last_step)
    if not factor:
        return loss
    _check_loss("corrected", loss)
    return loss + factor * gradient_norm(_with_graph(gradient))


def corrected_frozen(
    loss: Tensor,
    net: nn.Module,
    images: Tensor,
    label: int,
    options: argparse.Namespace,
    step: int,
    last_step: int,
    logits: Logits = lambda returned: returned,
) -> Tensor:
    """`loss` + lambda(t) * D of one class's images [n, C, H, W], for a method whose network is frozen (DM).

    `loss` is one number. `label` is that class's number, a whole number from 0: of images of several classes, call it
    once a class. `net` returns their logits alone, [n, classes]; where it returns more, `logits` takes them out of it,
    such as `logits=lambda returned: returned[1]`. TypeError: something else is given.
    """
    factor = weight_at(options, step, last_step)
    if not factor:
        return loss
    _check_loss("corrected_frozen", loss)
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise _unfit("corrected_frozen", "images [n, C, H, W] of one class", _told(images))
    term = class_norm(net, images, label, logits)
    if not term.requires_grad:
        raise _unfit("corrected_frozen", "images that lead back to the synthetic ones", "images without a graph")
    return loss + factor * term


def corrected_direction(
    direction: Tensor,
    gradient: Tensor,
    options: argparse.Namespace,
    step: int,
    last_step: int,
    share: Tensor | float = 1.0,
) -> Tensor:
    """v + share * lambda(t) * g/|g|, for a method that differentiates `v @ g` by hand, v fixed (TESLA).

    The gradient of |g| with respect to the images is (g/|g|) @ dg, so the term is one more fixed vector and costs no
    further backward pass. Both are flat, of equal length. `share` is the inner step's part of the mean, 1 / (number of
    inner steps), times whatever the script divides `v @ g` by. A zero gradient adds nothing. TypeError: something else
    is given.
    """
    factor = weight_at(options, step, last_step)
    if not factor:
        return direction
    if not _is_flat(direction) or not _is_flat(gradient) or direction.shape != gradient.shape:
        raise _unfit(
            "corrected_direction", "two flat vectors of equal length", f"{_told(direction)} and {_told(gradient)}"
        )
    return direction + share * factor * nn.functional.normalize(gradient.detach(), dim=0)


def _is_flat(vector: Tensor) -> bool:
    return isinstance(vector, Tensor) and vector.is_floating_point() and vector.dim() == 1


def _with_graph(gradient: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The parts of a gradient, if they are tensors, and one of them leads back to the images."""
    wanted = "the gradient that torch.autograd.grad(loss, parameters, create_graph=True) gives"
    if not isinstance(gradient, Iterable) or (isinstance(gradient, Tensor) and not gradient.dim()):
        raise _unfit("corrected", wanted, _told(gradient))
    parts = [gradient] if isinstance(gradient, Tensor) else list(gradient)
    for part in parts:
        if part is None:
            raise _unfit(
                "corrected", f"{wanted}, with materialize_grads=True", "None for a parameter that the loss misses"
            )
        if not isinstance(part, Tensor) or not part.is_floating_point():
            raise _unfit("corrected", wanted, f"{_told(part)} in it")
    if not any(part.requires_grad for part in parts):
        got = "one without a graph: detached, or made without create_graph" if parts else "an empty one"
        raise _unfit("corrected", wanted, got)
    return parts


def _check_loss(function: str, loss: Tensor | float) -> None:
    if (loss.numel() != 1) if isinstance(loss, Tensor) else not hasattr(loss, "__float__"):
        raise _unfit(function, "a loss that is one number", _told(loss))


def _class_number(label: int) -> int:
    """`label` as a whole number: an int, or what stands for one (of numpy, or a tensor without dimensions)."""
    if not isinstance(label, bool) and not len(getattr(label, "shape", ())):
        with contextlib.suppress(TypeError):
            return operator.index(label)
    raise _unfit("corrected_frozen", "as label one class's number, such as 3 (call it once a class)", _told(label))


def _checked(logits: Tensor, images: Tensor, label: int) -> Tensor:
    """What a network returned for images, if it is their logits, and one of them is the label's."""
    wanted = f"a net that returns logits alone, [{len(images)}, classes]"
    if not isinstance(logits, Tensor) or logits.shape[:-1] != images.shape[:1]:
        raise _unfit("corrected_frozen", f"{wanted} (or logits=lambda returned: returned[...])", _told(logits))
    if not 0 <= label < logits.shape[1]:
        raise _unfit("corrected_frozen", f"as label a class's number from 0 to {logits.shape[1] - 1}", str(label))
    return logits


def _unfit(function: str, wanted: str, got: str) -> TypeError:
    return TypeError(f"sdc.{function} wants {wanted}; it was given {got}")


def _told(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}" + (f", the first {_told(value[0])}" if value else "")
    return "None" if value is None else f"{value!r:.40} ({type(value).__name__})"
