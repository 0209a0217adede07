"""Train a network whose units say different things: `python examples/decorrelate.py decorrelate.png`.

A hidden layer learns to tell odours apart by noisy, simulated responses: without a penalty, and with DeCov on
the covariance of its units. These are brought to a variance of one first, so that they cannot meet the
penalty by being small. With docs/decorrelate.png as its name the figure is the documentation's. Needs PyTorch
and matplotlib.
"""

import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from torch.nn.functional import cross_entropy

import fastcov as fc
import fastcov.torch as fct

N_CHANNELS, N_ODOURS, N_UNITS = 60, 20, 40
NOISE = 0.7  # standard deviation of what a trial adds to each response
WEIGHT = 0.01  # of the penalty, beside a cross entropy of order one
TRIALS, STEPS = 256, 400

torch.set_num_threads(1)  # more do not pay for tensors this small
odours = torch.from_numpy(fc.datasets.simulate(N_CHANNELS, N_ODOURS, dtype=np.float32).X.T.copy())


def trials(count, generator):
    """Noisy responses (count, channels), and which odour each is to."""
    labels = torch.randint(N_ODOURS, (count,), generator=generator)
    return odours[labels] + NOISE * torch.randn(count, N_CHANNELS, generator=generator), labels


def new_network():
    torch.manual_seed(0)
    hidden = torch.nn.Sequential(
        torch.nn.Linear(N_CHANNELS, N_UNITS), torch.nn.ReLU(), torch.nn.BatchNorm1d(N_UNITS, affine=False)
    )
    return hidden, torch.nn.Linear(N_UNITS, N_ODOURS)


def trained(weight):
    hidden, readout = new_network()
    optimiser = torch.optim.Adam([*hidden.parameters(), *readout.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        responses, labels = trials(TRIALS, generator)
        activations = hidden(responses)  # (samples, units)
        loss = cross_entropy(readout(activations), labels)
        if weight:
            loss = loss + weight * fct.decov(activations, samples_axis=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return hidden, readout


@torch.no_grad()
def tested(hidden, readout):
    """Of new trials: covariance of the units, its mean magnitude between two of them, share told right."""
    responses, labels = trials(4000, torch.Generator().manual_seed(2))
    activations = hidden(responses)
    covariance = torch.cov(activations.T).numpy()
    right = (readout(activations).argmax(dim=1) == labels).double().mean().item()
    return covariance, np.abs(covariance[~np.eye(N_UNITS, dtype=bool)]).mean(), right


networks = {
    "Before training": new_network(),
    "Trained without penalty": trained(0.0),
    "Trained with DeCov": trained(WEIGHT),
}
found = {name: tested(*network) for name, network in networks.items()}
for name, (_, between, right) in found.items():
    print(f"{name + ':':<25}{right:.1%} right, mean |covariance| of two units {between:.3f}")

figure = Figure(figsize=(9.0, 3.5), layout="constrained")
figure.suptitle(
    f"While a layer learns to tell {N_ODOURS} odours apart its units become alike, but not with DeCov",
    fontsize=11,
)
axes = figure.subplots(1, 3)
for axis, (name, (covariance, between, right)) in zip(axes, found.items(), strict=True):
    order = leaves_list(linkage(covariance, "average", optimal_ordering=True))
    image = axis.imshow(covariance[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_title(f"{name}\n{right:.0%} right, mean |covariance| {between:.2f}", fontsize=10)
    axis.set(xticks=[], yticks=[])
axes[0].set_ylabel(f"{N_UNITS} hidden units, similar ones together", fontsize=9)
bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.015, shrink=0.8)
bar.set_label("covariance of two units\n(each has a variance of 1)", fontsize=9)
bar.ax.tick_params(labelsize=8)

output = sys.argv[1] if len(sys.argv) > 1 else "decorrelate.png"
figure.savefig(output, dpi=100)
print(f"Saved the figure to {output}")
