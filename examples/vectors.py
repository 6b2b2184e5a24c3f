"""Train a conditional GAN on pairs of vectors: the upper half of a digit is the condition, the lower half is drawn."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cgan import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec, Trainer, TrainingSet, TrainingSettings

# Your arrays: conditions (n, k), and data (n, d) in the range of G's output.
images = load_digits().data / 16
upper, lower = images[:, :32], images[:, 32:]
known, held_out = slice(0, 1500), slice(1500, 1510)

# 32 numbers of noise, 32 of the condition, 32 of data.
g = GeneratorSpec(32, "real", 32, condition_branch="relu:128", joint="relu:256", output_dim=32, output="sigmoid")
d = DiscriminatorSpec(32, "real", 32, input_branch="maxout:64x3", condition_branch="relu:128", joint="maxout:64x2")
data = TrainingSet(lower[known], upper[known])
trainer = Trainer(Generator(g, rng=1), Discriminator(d, rng=1), data, TrainingSettings(averaging=0.999), seed=1)
trainer.train(3000, progress=True)

# Ten lower halves for each of ten upper halves that were not trained on; the first column is the real digit.
asked = upper[held_out].repeat(10, axis=0)
drawn = np.hstack([asked, trainer.sampler.sample(asked, rng=2).numpy()]).reshape(10, 10, 64)
grid = np.concatenate([images[held_out][:, None], drawn], axis=1).reshape(10, 11, 8, 8)
plt.imsave("vectors.png", np.block([list(row) for row in grid]), cmap="gray")
