"""Why a channel's gain goes up, in words and as a figure: `python examples/explain.py explain.png`.

Responses are simulated. With docs/explain.png as its name the figure is the README's.
"""

import sys

import numpy as np

import fastcov as fc

sim = fc.datasets.simulate(n_channels=148, n_conditions=48, rng=0)
S = fc.target_covariance(sim.Y, like=sim.X)
why = fc.explain(sim.X, S, relative_ridge=0.1)
print(why)

i = int(np.argmax(why.delta))
parts = why.contributions(i)
print(f"\nThe gain of channel {i} goes up to {1 + parts.delta:.2f}:")
print(f"- A larger gain corrects the error: the overlap of its atom with it is {why.overlaps[i]:+.3g}.")
print(f"- Alone it would be {1 + parts.diagonal:.2f}. Others change that by {parts.others.sum():+.2f}:")
for name, value in parts.largest(3)[1]:
    shared = f"their atoms have a cosine of {parts.coherence[name]:.2f}"
    print(f"    channel {name} by {value:+.2f}: {shared}, and its gain is {1 + why.delta[name]:.2f}.")
modes = why.gain_modes()
through = (modes @ why.delta) * modes[:, i]
k = int(np.argmax(through))
share, shrinkage = why.loss_shares[k], why.shrinkage[k]
print(
    f"- {through[k]:+.2f} comes through mode {k + 1}, as does {share:.0%} of what the fit takes off the loss."
)
print(f"  The ridge lets {shrinkage:.0%} of the error along that mode be corrected.")

output = sys.argv[1] if len(sys.argv) > 1 else "explain.png"
fc.plot.explanation(why, i).savefig(output, dpi=100)
print(f"Saved the figure to {output}")
