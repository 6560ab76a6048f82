"""Problems whose curvature is known in closed form: operators as matrices, or as single products.

Data, weights and formulas are float64 and formed without automatic differentiation; batches are ragged (8, 8 and 5
samples). `error` is where the engine's product is made, on any number of ranks: nothing else in the tests of the
references knows how.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from exact import AdamCheckpoint
from small_problems import quadratic, symmetric
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.distributed.parallel import Comm
from landscape.engine.curvature import operator_at
from landscape.loss.problem import Problem
from landscape.operators.fisher import draw, uniform

SAMPLES, BATCH = 21, 8
SUM = "hessian - 0.5*gauss_newton"
ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-14}  # of norm(A) norm(V)


@dataclass(frozen=True)
class Case:
    """A V = AV, as it is known; `weights` restricts the problem to a block."""

    operator: str
    v: Tensor  # (size, b)
    av: Tensor  # (size, b)
    scale: float  # norm(A) norm(V)
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    name: str
    problem: Problem
    cases: list[Case] = field(default_factory=list)


def error(reference: Reference, case: Case, dtype: torch.dtype, comm: Comm, product: Product | None = None) -> float:
    """|A V - AV| / (norm(A) norm(V)) with the engine's product in this precision, or with one that is handed in."""
    problem = reference.problem.restricted(*case.weights) if case.weights else reference.problem
    problem = problem.to(dtype=dtype)
    v = case.v.to(dtype)
    if product is None:
        options = {"checkpoint": AdamCheckpoint(reference.problem)}
        curvature = operator_at(problem, problem.weights(), comm, case.operator, **options)
        found = comm.all_gather(curvature.matvec(v[curvature.part].contiguous()), problem.size)
    else:
        found = product(problem, v)
    return float((found.double() - case.av).norm()) / case.scale


Product = Callable[[Problem, Tensor], Tensor]  # (problem, (size, b)) -> (size, b)


# ---------------------------------------------------------------------- from matrices to cases


def of_matrices(name: str, problem: Problem, matrices: dict[str, Tensor]) -> Reference:
    """Every operator as a matrix, and what follows: the preconditioned Hessian, a sum, one weight's block."""
    h = matrices["hessian"]
    matrices = dict(matrices)
    state = AdamCheckpoint(problem).state
    moments = torch.cat([state[f"exp_avg_sq/{n}"].double().flatten() for n, _, _ in problem.named_slices()])
    s = (torch.sqrt(moments / (1 - 0.99**10)) + 1e-3).rsqrt()
    matrices["preconditioned"] = s[:, None] * h * s
    if "gauss_newton" in matrices:
        matrices[SUM] = h - 0.5 * matrices["gauss_newton"]
        matrices["residual"] = h - matrices["gauss_newton"]
    eye = torch.eye(len(h), dtype=torch.float64)
    scale = float(h.norm())
    cases = [Case(o, eye, m, max(scale, float(m.norm()))) for o, m in matrices.items()]
    first, _, where = problem.named_slices()[0]
    for operator, matrix in matrices.items():
        block = matrix[where, where]
        if block.shape != matrix.shape and operator != "preconditioned":
            size = max(scale, float(block.norm()))
            cases.append(Case(operator, torch.eye(len(block), dtype=torch.float64), block, size, (first,)))
    return Reference(name, problem, cases)


def outer(vectors: Tensor) -> Tensor:
    """1/n sum_i g_i g_i^T of rows g_i."""
    return vectors.T @ vectors / len(vectors)


def data(features: int, outputs: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(SAMPLES, n, generator=generator, dtype=torch.float64) for n in (features, outputs))  # type: ignore[return-value]


def labels(classes: int, seed: int = 1) -> Tensor:
    return torch.randint(classes, (SAMPLES,), generator=torch.Generator().manual_seed(seed))


def linear(features: int, outputs: int) -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(features, outputs, bias=False).double()


# ---------------------------------------------------------------------- regressions


def linear_regression() -> Reference:
    """1/2 mean (Xw - y)^2: H = G = X^T X / n, empirical Fisher X^T diag(r^2) X / n."""
    x, y = data(5)
    model = linear(5, 1)
    problem = Problem(model, lambda o, t: 0.5 * (o - t).square().mean(), (x, y), batch_size=BATCH)
    r = x @ problem.weights()[:, None] - y
    return of_matrices(
        "linear regression", problem,
        {"hessian": outer(x), "gauss_newton": outer(x), "empirical_fisher": outer(r * x)},
    )  # fmt: skip


def logistic_regression() -> Reference:
    """H = G = X^T diag(s (1 - s)) X / n, empirical Fisher X^T diag((s - y)^2) X / n."""
    x, _ = data(5)
    y = labels(2).double()[:, None]
    problem = Problem(linear(5, 1), F.binary_cross_entropy_with_logits, (x, y), batch_size=BATCH)
    s = torch.sigmoid(x @ problem.weights()[:, None])
    h = outer((s * (1 - s)).sqrt() * x)
    return of_matrices(
        "logistic regression", problem, {"hessian": h, "gauss_newton": h, "empirical_fisher": outer((s - y) * x)}
    )


def softmax_regression() -> Reference:
    """H = G = mean (diag p - p p^T) (x) x x^T; the Fisher with the drawn and with the data's labels."""
    x, _ = data(4)
    y, classes = labels(3), 3
    problem = Problem(linear(4, classes), F.cross_entropy, (x, y), batch_size=BATCH)
    p = (x @ problem.weights().view(classes, 4).T).softmax(dim=1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    h = torch.einsum("nab,ni,nj->aibj", inner, x, x).reshape(12, 12) / SAMPLES

    def fisher(targets: Tensor) -> Tensor:
        return outer(((p - F.one_hot(targets, classes))[:, :, None] * x[:, None]).reshape(SAMPLES, -1))

    drawn = draw(p, uniform(0, torch.arange(SAMPLES)))
    found = {"hessian": h, "gauss_newton": h, "empirical_fisher": fisher(y), "fisher": fisher(drawn)}
    return of_matrices("softmax regression", problem, found)


def softmax_nullity() -> Reference:
    """A shift of all classes' weights of one feature changes no probability: A u = 0, for every operator."""
    reference = softmax_regression()
    shifts = torch.eye(4, dtype=torch.float64).repeat(3, 1)  # (12, 4)
    zero = torch.zeros(12, 4, dtype=torch.float64)
    return Reference(
        "softmax nullity", reference.problem,
        [Case(o, shifts, zero, 1.0) for o in ("hessian", "gauss_newton", "residual", "empirical_fisher", "fisher")],
    )  # fmt: skip


def parabola() -> Reference:
    """1/2 (w - c)^T A (w - c), A indefinite: H = A."""
    matrix = symmetric(7)
    return of_matrices("quadratic", quadratic(matrix, torch.ones(7).double()), {"hessian": matrix})


# ---------------------------------------------------------------------- networks


def deep_linear() -> Reference:
    """1/2 mean |W2 W1 x - y|^2: H11 = W2^T W2 (x) S, H22 = I (x) W1 S W1^T, H12 = W2 (x) W1 S + E delta."""
    d, h, c = 4, 3, 2
    x, y = data(d, c)
    model = nn.Sequential(linear(d, h), linear(h, c))
    problem = Problem(model, lambda o, t: 0.5 * (o - t).square().sum(dim=1).mean(), (x, y), batch_size=BATCH)
    w1, w2 = problem.weights()[: h * d].view(h, d), problem.weights()[h * d :].view(c, h)
    s = outer(x)
    e = w2 @ w1 @ s - y.T @ x / SAMPLES  # (c, d)
    h11 = torch.einsum("ca,cb,ij->aibj", w2, w2, s).reshape(h * d, h * d)
    h22 = torch.kron(torch.eye(c, dtype=torch.float64), w1 @ s @ w1.T)
    g12 = torch.einsum("ca,bi->aicb", w2, w1 @ s).reshape(h * d, c * h)
    r12 = torch.einsum("ci,ab->aicb", e, torch.eye(h, dtype=torch.float64)).reshape(h * d, c * h)
    gauss_newton = torch.cat([torch.cat([h11, g12], dim=1), torch.cat([g12.T, h22], dim=1)])
    zero11, zero22 = torch.zeros_like(h11), torch.zeros_like(h22)
    residual = torch.cat([torch.cat([zero11, r12], dim=1), torch.cat([r12.T, zero22], dim=1)])
    errors = x @ w1.T @ w2.T - y  # (n, c)
    gradients = torch.cat([
        torch.einsum("nc,ca,ni->nai", errors, w2, x).reshape(SAMPLES, -1),
        torch.einsum("nc,na->nca", errors, x @ w1.T).reshape(SAMPLES, -1),
    ], dim=1)  # fmt: skip
    return of_matrices(
        "deep linear", problem,
        {"hessian": gauss_newton + residual, "gauss_newton": gauss_newton, "empirical_fisher": outer(gradients)},
    )  # fmt: skip


class Product2(nn.Module):
    """a b, for every row of the input."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (a, b))

    def forward(self, x: Tensor) -> Tensor:
        return (self.a * self.b).expand(len(x), 1)


def valley(a: float, b: float) -> Reference:
    """(a b - 1)^2 / 2: H = (b, a)(b, a)^T + (a b - 1) [[0, 1], [1, 0]]; on a b = 1 its eigenvalues are 0, a^2 + b^2."""
    x, y = data(1)[0], torch.ones(SAMPLES, 1, dtype=torch.float64)
    problem = Problem(Product2(a, b), lambda o, t: 0.5 * (o - t).square().mean(), (x, y), batch_size=BATCH)
    slope = torch.tensor([[b, a]], dtype=torch.float64)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    g = slope.T @ slope
    found = {"hessian": g + (a * b - 1) * swap, "gauss_newton": g, "empirical_fisher": (a * b - 1) ** 2 * g}
    return of_matrices("valley" if a * b == 1 else "beside the valley", problem, found)


def tanh_network() -> Reference:
    """W2 tanh(W1 x + b1) + b2 with cross-entropy: G + R, R = mean sum_k (p - e_y)_k d2 z_k, all by hand."""
    d, h, c = 4, 5, 3
    x, _ = data(d)
    y = labels(c)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(d, h), nn.Tanh(), nn.Linear(h, c)).double()
    problem = Problem(model, F.cross_entropy, (x, y), batch_size=BATCH)
    w1, b1, w2, b2 = (p.detach() for p in model.parameters())
    a = torch.tanh(x @ w1.T + b1)  # (n, h)
    first, second = 1 - a.square(), -2 * a * (1 - a.square())
    p = (a @ w2.T + b2).softmax(dim=1)
    jacobian = tanh_jacobian(x, a, first, w2)  # (n, c, size)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    gauss_newton = torch.einsum("nkw,nkl,nlv->wv", jacobian, inner, jacobian) / SAMPLES
    slopes = p - F.one_hot(y, c)
    drawn = p - F.one_hot(draw(p, uniform(0, torch.arange(SAMPLES))), c)
    hessian = gauss_newton + tanh_residual(x, first, second, w2, slopes)
    return of_matrices(
        "tanh network", problem,
        {
            "hessian": hessian, "gauss_newton": gauss_newton,
            "empirical_fisher": outer(torch.einsum("nk,nkw->nw", slopes, jacobian)),
            "fisher": outer(torch.einsum("nk,nkw->nw", drawn, jacobian)),
        },
    )  # fmt: skip


def tanh_jacobian(x: Tensor, a: Tensor, first: Tensor, w2: Tensor) -> Tensor:
    """d z / d (W1, b1, W2, b2), (n, c, size)."""
    n, c = len(x), len(w2)
    by_b1 = w2[None] * first[:, None]  # (n, c, h)
    by_w1 = (by_b1[..., None] * x[:, None, None]).reshape(n, c, -1)
    eye = torch.eye(c, dtype=torch.float64)
    by_w2 = (eye[None, :, :, None] * a[:, None, None]).reshape(n, c, -1)
    return torch.cat([by_w1, by_b1, by_w2, eye.expand(n, c, c)], dim=2)


def tanh_residual(x: Tensor, first: Tensor, second: Tensor, w2: Tensor, slopes: Tensor) -> Tensor:
    """mean_n sum_k s_k d2 z_k / d (W1, b1, W2, b2)^2, (size, size)."""
    n, d = x.shape
    c, h = w2.shape
    wide = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], dim=1)  # (n, d + 1): W1 and b1 side by side
    own = torch.einsum("na,ni,nj->aij", (slopes @ w2) * second, wide, wide) / n  # same hidden unit twice
    cross = torch.einsum("nk,na,ni->aik", slopes, first, wide) / n  # W1[a, i] with W2[k, a]

    def w1_index(unit: int, i: int) -> int:
        return unit * d + i if i < d else h * d + unit

    matrix = torch.zeros((h * (d + 1) + c * h + c,) * 2, dtype=torch.float64)
    for unit in range(h):
        for i in range(d + 1):
            row = w1_index(unit, i)
            for j in range(d + 1):
                matrix[row, w1_index(unit, j)] = own[unit, i, j]
            for k in range(c):
                column = h * (d + 1) + k * h + unit
                matrix[row, column] = matrix[column, row] = cross[unit, i, k]
    return matrix


# ---------------------------------------------------------------------- invariances: single products


def bias_shift() -> Reference:
    """A shift of all output biases changes no probability: A u = 0."""
    problem = tanh_network().problem
    u = torch.zeros(problem.size, 1, dtype=torch.float64)
    u[-3:] = 1
    return Reference("bias shift", problem, [
        Case(o, u, torch.zeros_like(u), 1.0) for o in ("hessian", "gauss_newton", "empirical_fisher", "fisher", SUM)
    ])  # fmt: skip


def euler() -> Reference:
    """Summed output of a bias-free ReLU net of depth L: homogeneous, so H w = (L - 1) g; linear in z, so G = 0."""
    x, y = data(5)
    model = nn.Sequential(linear(5, 6), nn.ReLU(), linear(6, 4), nn.ReLU(), linear(4, 2))
    problem = Problem(model, lambda o, t: o.sum(dim=1).mean(), (x, y), batch_size=BATCH)
    w1, w2, w3 = (p.detach() for p in model.parameters())
    a1 = (x @ w1.T).clamp(min=0)
    a2 = (a1 @ w2.T).clamp(min=0)
    d2 = (a2 > 0) * w3.sum(dim=0)  # slopes of the summed output before the second ReLU
    d1 = (a1 > 0) * (d2 @ w2)
    gradients = (d1.T @ x, d2.T @ a1, torch.ones(SAMPLES, 2, dtype=torch.float64).T @ a2)
    g = torch.cat([g.flatten() / SAMPLES for g in gradients])[:, None]
    w, scale = problem.weights()[:, None], float(2 * g.norm())
    zero = torch.zeros_like(w)
    return Reference("Euler", problem, [
        Case("hessian", w, 2 * g, scale), Case("residual", w, 2 * g, scale), Case("gauss_newton", w, zero, scale)
    ])  # fmt: skip


def scale_invariance() -> Reference:
    """Weights before BatchNorm (eps -> 0): homogeneous of degree 0, so H w = -g there and H w = 0 elsewhere."""
    x, _ = data(4)
    y = labels(3)
    torch.manual_seed(4)
    norm = nn.BatchNorm1d(5, eps=1e-30, track_running_stats=False)
    model = nn.Sequential(linear(4, 5), norm, nn.Tanh(), nn.Linear(5, 3)).double()
    problem = Problem(model, F.cross_entropy, (x, y), batch_size=BATCH)
    w = torch.zeros(problem.size, 1, dtype=torch.float64)
    w[:20, 0] = problem.weights()[:20]
    g = torch.zeros_like(w)
    g[:20, 0] = batch_norm_gradient(problem).flatten()
    return Reference("scale invariance", problem, [Case("hessian", w, -g, float(w.norm() + g.norm()))])


def batch_norm_gradient(problem: Problem) -> Tensor:
    """Gradient (5, 4) by the weights before the BatchNorm, by hand; it is orthogonal to them."""
    w1, gamma, beta, w2, b2 = (p.detach() for p in problem.model.parameters())
    total = torch.zeros_like(w1)
    for x, y in problem.batches:
        z = x @ w1.T
        deviation = z.std(dim=0, correction=0)
        hat = (z - z.mean(dim=0)) / deviation
        a = torch.tanh(gamma * hat + beta)
        slopes = ((a @ w2.T + b2).softmax(dim=1) - F.one_hot(y, 3)) / len(x)
        by_hat = (slopes @ w2) * (1 - a.square()) * gamma
        by_z = (by_hat - by_hat.mean(dim=0) - hat * (by_hat * hat).mean(dim=0)) / deviation
        total += by_z.T @ x * len(x) / problem.samples
    return total


@functools.cache
def references() -> dict[str, Reference]:
    """All of them by name."""
    made = (
        linear_regression(), logistic_regression(), softmax_regression(), softmax_nullity(), parabola(), deep_linear(),
        valley(0.5, 2.0), valley(0.7, 2.0), tanh_network(), bias_shift(), euler(), scale_invariance(),
    )  # fmt: skip
    return {reference.name: reference for reference in made}


def worst(dtype: torch.dtype, comm: Comm) -> list[tuple[str, str, float]]:
    """(reference, operator, error) of every case, the largest first."""
    found = [
        (r.name, case.operator + (f"[{','.join(case.weights)}]" if case.weights else ""), error(r, case, dtype, comm))
        for r in references().values()
        for case in r.cases
    ]
    return sorted(found, key=lambda row: -row[2])


