"""Train a network with units that say different things: `python examples/decorrelate.py decorrelate.png`.

A hidden layer learns to tell odours apart from noisy, simulated responses, without a penalty and with DeCov on the
covariance of its units. Its units are brought to a variance of one, so that they cannot meet the penalty by being
small. With docs/decorrelate.png as its name the figure is the README's. Needs PyTorch and matplotlib.
"""

import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

import fastcov as fc
import fastcov.torch as fct

N_CHANNELS, N_ODOURS, N_UNITS = 60, 20, 40
NOISE = 0.7  # standard deviation of what a trial adds to each response
WEIGHT = 0.01  # of the penalty, beside a cross entropy of order one
BATCH, STEPS = 256, 600

odours = torch.from_numpy(fc.datasets.simulate(N_CHANNELS, N_ODOURS, rng=0, dtype=np.float32).X.T.copy())


def trials(count, generator):
    """Noisy responses (count, channels) and the odours that they are to."""
    labels = torch.randint(N_ODOURS, (count,), generator=generator)
    return odours[labels] + NOISE * torch.randn(count, N_CHANNELS, generator=generator), labels


def new_network():
    torch.manual_seed(0)
    hidden = torch.nn.Sequential(
        torch.nn.Linear(N_CHANNELS, N_UNITS),
        torch.nn.ReLU(),
        torch.nn.BatchNorm1d(N_UNITS, affine=False),
    )
    return hidden, torch.nn.Linear(N_UNITS, N_ODOURS)


def trained(weight):
    hidden, readout = new_network()
    optimiser = torch.optim.Adam([*hidden.parameters(), *readout.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        responses, labels = trials(BATCH, generator)
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
    """Covariance of the units over new trials, mean magnitude between different ones, share of odours told."""
    hidden.eval()
    responses, labels = trials(4000, torch.Generator().manual_seed(2))
    activations = hidden(responses)
    covariance = np.corrcoef(activations.numpy(), rowvar=False)
    between = np.abs(covariance[~np.eye(N_UNITS, dtype=bool)]).mean()
    right = (readout(activations).argmax(dim=1) == labels).float().mean()
    return covariance, between, float(right)


networks = {
    "Before training": new_network(),
    "Trained without penalty": trained(0.0),
    "Trained with DeCov": trained(WEIGHT),
}
found = {name: tested(*network) for name, network in networks.items()}
for name, (_, between, right) in found.items():
    print(f"{name + ':':<25}{right:.1%} right, mean |covariance| between units {between:.3f}")
