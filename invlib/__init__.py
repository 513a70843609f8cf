"""Image inverse problems with the prior implicit in a denoiser, or explicit in a flow.

A prior says which pictures are likely. A problem says what was measured, and with what noise. A solver finds pictures
that are likely and agree with the measurements. A run is one of each, with its settings, states, result and scores.

>>> import invlib, torch
>>> prior = invlib.load("bf-cnn-mnist")
>>> operator = invlib.BlockAverage((1, 28, 28), factor=2)
>>> result = invlib.restore(prior, operator, operator.measure(torch.rand(1, 1, 28, 28)), count=2, seed=0)
>>> result.mean.shape
torch.Size([1, 1, 28, 28])
"""

import lazy_loader

# PyTorch alone takes two seconds to import, so it is imported when something of the library is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
