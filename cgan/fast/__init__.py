"""The update of ``cgan.update``, quicker: one optimisation per file, each tested for equality with the plain update.

``masks``        dropout masks cut from random bits
``layers``       ReLU and maxout fused with dropout
``shared_pass``  one pass through D, forward and backward, serves G and D
``accumulate``   weight gradients multiplied straight into the velocity
``network``      a plain network computed with these layers
``update``       the simultaneous update made of all of these
``graph``        the update captured as a CUDA graph
``seeds``        several seeds trained at once

``--no-fast`` trains with ``cgan.update`` alone, and imports nothing from here.
"""
