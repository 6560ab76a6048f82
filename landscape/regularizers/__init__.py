"""Regularizers r(x) by their proximal operators, one file each: the file's name is the choice's name.

    prox(b; tau) = argmin_{x in box} r(x) + 1/2 (x - b)' diag(tau) (x - b)

Each file offers `make(mu, low, high, **settings)`; `low` and `high` bound every weight, None where there is no bound.
"""
