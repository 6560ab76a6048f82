"""What generator and discriminator of an adversarial network descend; D gives logits, real is one, made is zero.

| name          | discriminator                                  | generator              | source                  |
|---------------|------------------------------------------------|------------------------|-------------------------|
| nsgan         | -log s(D(x)) - log(1 - s(D(G(z))))             | -log s(D(G(z)))        | Goodfellow et al. 2014  |
| minimax       | the same                                       | log(1 - s(D(G(z))))    | Goodfellow et al. 2014  |
| least_squares | ((D(x) - 1)^2 + D(G(z))^2) / 2                 | (D(G(z)) - 1)^2 / 2    | Mao et al. 2017         |
| wgan          | -D(x) + D(G(z)), D of any slope                | -D(G(z))               | Arjovsky et al. 2017    |

All are means over the batch, s is the logistic function. `minimax` and `wgan` are zero-sum but for the term of the
real samples. `wgan` holds the critic's slope by nothing: it is for looking at games, not for long trainings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..errors import UsageError
from ..loss.objective import BatchLoss


@dataclass(frozen=True)
class Payoff:
    """Losses of scores (n, 1): the discriminator's of real and made samples, the generator's of made ones."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _cross_entropy(real: Tensor, made: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(made).mean()


PAYOFFS = {
    "nsgan": Payoff(_cross_entropy, lambda made: softplus(-made).mean()),
    "minimax": Payoff(_cross_entropy, lambda made: -softplus(made).mean()),
    "least_squares": Payoff(
        lambda real, made: ((real - 1).square().mean() + made.square().mean()) / 2,
        lambda made: (made - 1).square().mean() / 2,
    ),
    "wgan": Payoff(lambda real, made: made.mean() - real.mean(), lambda made: -made.mean()),
}


def adversarial(payoff: str) -> dict[str, BatchLoss]:
    """Losses of the players `generator` and `discriminator` of a model on batches (real samples, noise).

    Outputs are the made samples for the generator, the scores (2n, 1) for the discriminator.

    Raises:
        UsageError: no such payoff.
    """
    if payoff not in PAYOFFS:
        raise UsageError(f"unknown payoff '{payoff}'; the choices are {', '.join(PAYOFFS)}")
    chosen = PAYOFFS[payoff]

    def generator(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        made = model.generator(batch[1])
        return chosen.generator(model.discriminator(made)), made

    def discriminator(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        real, made = batch[0], model.generator(batch[1])
        scores = model.discriminator(torch.cat([real, made]))
        return chosen.discriminator(*scores.split([len(real), len(made)])), scores

    return {"generator": generator, "discriminator": discriminator}
