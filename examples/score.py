"""Score any samples beside real data: Parzen window log-likelihood, density and coverage.

``python score.py samples.npy``, an array (n, d) such as ``labels.py`` writes; without a file real digits are scored.
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

from cgan.metrics.density_coverage import density_coverage
from cgan.metrics.parzen import evaluate

# Your real data: rows that the generator was not trained on, to choose sigma on (valid) and to score (test).
images = torch.from_numpy(load_digits().data / 16).float()
valid, test = images[1000:1400], images[1400:]
samples = torch.from_numpy(np.load(sys.argv[1])) if sys.argv[1:] else images[:1000]

parzen = evaluate(samples, valid, test, progress=True)
print(f"Parzen window log-likelihood {parzen.test_mean:.1f} ± {parzen.test_se:.1f} nats at sigma {parzen.sigma:.2f}")
share = density_coverage(test, samples)
print(f"density {share.density:.2f} (fidelity), coverage {share.coverage:.2f} (diversity, 1 at most)")
