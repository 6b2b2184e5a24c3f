"""Train a conditional GAN on labelled arrays, draw a row of samples for each label, and keep them for ``score.py``."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cgan import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec, Trainer, TrainingSet, TrainingSettings

# Your arrays: data (n, d) in the range of G's output, here a sigmoid's (0 to 1), and labels (n,) from 0.
images, labels = load_digits(return_X_y=True)
data = TrainingSet(images[:1000] / 16, labels[:1000])

# 32 numbers of noise, a label of 10 classes, 64 numbers of data.
g = GeneratorSpec(32, "one_hot", 10, condition_branch="relu:64", joint="relu:256", output_dim=64, output="sigmoid")
d = DiscriminatorSpec(64, "one_hot", 10, input_branch="maxout:64x3", condition_branch="relu:64", joint="maxout:64x2")
trainer = Trainer(Generator(g, rng=1), Discriminator(d, rng=1), data, TrainingSettings(averaging=0.999), seed=1)
trainer.train(3000, progress=True)

samples = trainer.sampler.sample(np.arange(10).repeat(100), rng=2).numpy()
np.save("samples.npy", samples)
plt.imsave("labels.png", np.block([list(row) for row in samples.reshape(10, 100, 8, 8)[:, :10]]), cmap="gray")
