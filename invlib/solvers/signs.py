"""Digits of which only the signs of random sums were measured, by a prior that is implicit in a denoiser."""

from __future__ import annotations

import torch
from torch import Tensor

from invlib.priors.denoisers import Denoiser
from invlib.problems.forward import SignMeasurements
from invlib.problems.noise import Gaussian
from invlib.problems.structured import MeasurementModel
from invlib.solvers.posterior import Level, Posterior

WHITE = 0.025
"""The share of a digit's pixels that are white, at least."""

SOFTNESS = 0.55
"""The noise level that sums are taken to have before their sign is taken, over that of the iterate."""

ITERATIONS = 10
"""Of L-BFGS; more of them change nothing."""


class SignPosterior(Posterior):
    """The distribution of images given measurements y = sign(A x) + δ, whose density is known.

    Signs tell the direction of an image and not its length, and a homogeneous denoiser likes every multiple of an image
    equally. So the brightest pixels of an estimate are made white, as those of digits are.

    Parameters
    ----------
    denoiser : blind and bias-free.
    model : of `SignMeasurements` with Gaussian noise δ.
    y : the measurements of one image, (1, m).

    Examples
    --------
    >>> from invlib.priors.denoisers import BFCNN
    >>> from invlib.problems.structured import TASKS
    >>> model = TASKS["one-bit"].build({"count": 500, "c": 0.1})
    >>> posterior = SignPosterior(BFCNN(1, depth=2, width=4).eval(), model, model.measure(torch.rand(1, 1, 28, 28)))
    >>> posterior.mean(torch.randn(2, 1, 28, 28), sigma=1.0).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, denoiser: Denoiser, model: MeasurementModel, y: Tensor) -> None:
        super().__init__(denoiser, shape=model.image_shape)
        assert isinstance(model.forward, SignMeasurements)
        assert isinstance(model.noise, Gaussian)
        self.forward, self.noise_model = model.forward.to(self.device), model.noise.to(self.device)
        self.measured, self.y = y.numel(), y.to(self.device)

    def grey(self) -> Tensor:
        """The samplers start from black, which digits mostly are."""
        return torch.zeros(1, *self.shape, device=self.device)

    def mean(self, y: Tensor, sigma: float) -> Tensor:
        """An estimate of E[x | y, signs] from iterates y = x + σ n (n, C, H, W) and their noise level.

        It takes x to have the denoiser's estimate x̂ as its mean and the covariance σ² I, given the iterate alone, as
        the paper does for linear measurements. The estimate is the most likely x given the signs as well: the maximum
        of log p(signs | x) - ‖x - x̂‖² / 2σ². It would lie at the edge of what the signs allow, where the mean is not,
        so the sums are taken to have some noise before their signs are taken.
        """
        return brightened(self.likeliest(self.denoise(y), sigma))

    def replaced(self, y: Tensor, sigma: Level) -> Tensor:
        """The estimate of `mean`, which takes no derivative of the denoiser."""
        return self.mean(y, float(sigma))

    @torch.inference_mode(False)
    @torch.enable_grad()
    def likeliest(self, x_hat: Tensor, sigma: float) -> Tensor:
        """The maximum of log p(signs | x) - ‖x - x̂‖² / 2σ² over images x: (n, C, H, W)."""
        x_hat, softness = x_hat.clone(), SOFTNESS * sigma
        change = torch.zeros_like(x_hat, requires_grad=True)  # in units of σ
        descent = torch.optim.LBFGS([change], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            descent.zero_grad()
            signs = self.forward.log_prob(self.noise_model, self.y, x_hat + sigma * change, softness)
            loss = change.square().sum() / 2 - signs.sum()
            loss.backward()
            return loss

        descent.step(objective)
        return (x_hat + sigma * change).detach()


def brightened(x: Tensor) -> Tensor:
    """Images (n, C, H, W), each times a number that makes its brightest pixels 1 on average.

    >>> brightened(torch.tensor([[[[0.1, 0.2], [0.0, 0.4]]]]))
    tensor([[[[0.2500, 0.5000],
              [0.0000, 1.0000]]]])
    """
    count = max(1, round(WHITE * x[0].numel()))
    brightest = x.flatten(1).topk(count, dim=1).values.mean(1)
    return x / brightest.clamp_min(1e-3).view(-1, 1, 1, 1)
