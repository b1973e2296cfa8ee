"""The term in a training loop of one's own: `python examples/own_loop.py`.

Distils ten random images by gradient matching (as DC does) from scikit-learn's digits, with SDC: the lines that say
`sdc` are all that it takes. Without this package, put a copy of plugins/sdc.py beside the script as sdc.py.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import sdc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
sdc.add_options(parser)  # --sdc_lambda, --sdc_schedule, --sdc_every
args = parser.parse_args()

torch.manual_seed(0)
real, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
real = real.float() / 16
images, classes = torch.rand(10, 64, requires_grad=True), torch.arange(10)
optimizer = torch.optim.SGD([images], lr=1.0)

for step in range(args.steps):
    net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    wanted = torch.autograd.grad(cross_entropy(net(real), labels), list(net.parameters()))
    gradient = torch.autograd.grad(cross_entropy(net(images), classes), list(net.parameters()), create_graph=True)
    loss = torch.stack([(ours - theirs).square().sum() for ours, theirs in zip(gradient, wanted, strict=True)]).sum()
    loss = sdc.corrected(loss, gradient, args, step, args.steps - 1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print(f"gradient norm of the distilled images: {sdc.gradient_norm(gradient):.4f}")
