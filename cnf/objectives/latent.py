"""Variational autoencoders: a flow as posterior of latent variables, amortised over data."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution

from cnf.arguments import Size, checked
from cnf.distributions import BaseDensity, as_base
from cnf.flows import Flow
from cnf.objectives.interface import Loss


@checked
class ELBO(nn.Module):
    """`−E[log p(x | z) + log p(z) − log q(z | x)]` over z of a conditional flow: minus a lower bound of `log p(x)`.

    The flow is `q(z | h)` with the context `h = encoder(x)`. Encoder, decoder and prior are trained along:
    `cnf.fit(flow, x, ELBO(encoder, decoder, prior))`. With K samples it is the tighter bound of importance weighting,
    `−E[log 1/K Σₖ p(x | zₖ) p(zₖ) / q(zₖ | x)]`; `cnf.inference.marginal_log_prob` evaluates it with many.

    The metrics are `reconstruction`, the mean of `−log p(x | z)`, and `kl`, that of `log q(z | x) − log p(z)`.

    Args:
        encoder: A module from rows x `(N, *shape)` to contexts `(N, C)` of the flow.
        decoder: A module from latent variables `(N, *event)` to a distribution of torch for each row, such as
            `Independent(Bernoulli(logits=…), 1)`.
        prior: The density of z: a base density, a distribution of torch or another flow.
        samples: K.

    Raises:
        ValueError: In use, a decoder whose distributions do not give one number a row, or a context.

    References:
        Kingma and Welling 2014, arXiv 1312.6114; Rezende and Mohamed 2015, arXiv 1505.05770; Burda et al. 2016,
        arXiv 1509.00519.

    Example:
        >>> import torch, cnf
        >>> from torch.distributions import Independent, Normal
        >>> class Decoder(torch.nn.Linear):
        ...     def forward(self, z):
        ...         return Independent(Normal(super().forward(z), 0.1), 1)
        >>> posterior = cnf.build("iaf", 2, context_dim=3, hidden=8)
        >>> objective = cnf.ELBO(torch.nn.Linear(5, 3), Decoder(2, 5), cnf.StandardNormal(2))
        >>> config = cnf.FitConfig(steps=2, batch_size=16, progress=False)
        >>> result = cnf.fit(posterior, torch.randn(64, 5), objective, config=config)
        >>> sorted(objective(posterior, torch.randn(64, 5)).metrics)
        ['kl', 'reconstruction']
    """

    has_latents = True

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module | Callable[[Tensor], Distribution],
        prior: BaseDensity | Distribution | Flow,
        *,
        samples: Size = 1,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.samples = encoder, decoder, samples
        self.prior = prior if isinstance(prior, Flow) else as_base(prior)

    def forward(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        if context is not None:
            raise ValueError("the context of the flow is encoder(x): give rows of data alone")
        log_likelihood, log_ratio = self.log_weights(flow, x, self.samples)
        rows = math.log(self.samples) - (log_likelihood + log_ratio).logsumexp(0)
        metrics = {"reconstruction": -log_likelihood.detach().mean(), "kl": -log_ratio.detach().mean()}
        return Loss(rows.mean(), metrics, rows)

    def log_weights(self, flow: Flow, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """`log p(x | z)` and `log p(z) − log q(z | x)` of samples z for each row, `(K, N)` each."""
        features = self.encoder(x)
        z, log_q = flow.sample_and_log_prob((samples, len(x)), features.expand(samples, *features.shape))
        points = z.flatten(0, 1)
        log_likelihood = self.decoder(points).log_prob(x.expand(samples, *x.shape).flatten(0, 1))
        if log_likelihood.shape != (len(points),):
            raise ValueError(
                f"the decoder's distributions must give one number a row, ({len(points)},), got "
                f"{tuple(log_likelihood.shape)}: wrap them in torch.distributions.Independent"
            )
        return log_likelihood.view_as(log_q), self.prior.log_prob(points).view_as(log_q) - log_q
