"""Logistic regression with an L2 penalty, fitted once per episode by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import Scorer
from fewshot_i2v.models.heads.base.readout_weights import scale_readouts
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions

Array = NDArray[np.float64]
LinearWeights = tuple[Array, Array]
"""Of a classifier: one row per class, (way, D), and intercepts, (way,)."""
C_GRID: Final = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Values of C that leave-one-out chooses from."""
DEFAULT_C: Final = 1.0
"""C where leave-one-out cannot choose, because a class has one support clip."""
_TOLERANCE, _MAX_ITERATIONS = 1e-9, 1_000
# what `_largest_gradient` may be at the optimum; usual are 1e-9 and less
_GRADIENT_TOLERANCE = 1e-6


class LogisticOptions(PrototypeOptions):
    """Options of the logistic head.

    `pooling` and `center` make the vectors, as for `VectorOptions`. `metric` (cosine only) and
    `temperature` are of the loss that an adapter is tuned with; the classifier does not see them.

    Attributes:
        normalize: scale every readout of a vector to length one, then by the root of its weight.
            Without, readouts have the size that the encoder gives them, and no weights.
        c: C, above 0: the inverse of the strength of the L2 penalty, as in scikit-learn for three
            classes and more (for two, where it fits one row of weights, this is its C / 2). "loo":
            the one of 0.1, 1, 10, 100, 1000 with the least cross-entropy of support clips that were
            left out one at a time (the smallest such C); 1 where a class has one support clip.
    """

    metric: Literal["cosine"] = "cosine"
    normalize: bool = True
    c: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["loo"] = "loo"


class LogisticHead(PrototypeHead):
    """Multinomial logistic regression with an L2 penalty on the vectors of the support clips.

    With one row of weights per class, whatever their number, the loss is the cross-entropy summed
    over the support clips plus the squared weights / (2 C); the intercepts are not penalised. It is
    fitted to the support clips after tuning, on the CPU in float64, once per episode. No gradient
    flows through the fit: logits of query clips have none. While an adapter is tuned,
    the loss is that of the leave-one-out prototypes of the `prototype` head on the same vectors
    instead; the classifier does not take part in it.

    Raises:
        HeadError: as `VectorHead`, and when there is one class only.
    """

    Options: ClassVar[type[PrototypeOptions]] = LogisticOptions
    options: LogisticOptions
    source: ClassVar[str] = (
        "Tian et al.: Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, "
        "ECCV 2020, https://arxiv.org/abs/2003.11539"
    )
    citation: ClassVar[str] = """
    @inproceedings{tian2020rethinking,
      author = {Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and Isola,
        Phillip},
      title = {Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?},
      booktitle = {European Conference on Computer Vision},
      year = {2020},
      url = {https://arxiv.org/abs/2003.11539},
    }
    """

    def __init__(
        self, options: LogisticOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        if options.weights != "equal" and not options.normalize:
            raise HeadError(
                f"head 'logistic': weights={options.weights} needs normalize=true: without it "
                "readouts have the size that the encoder gives them"
            )
        if way == 1:
            raise HeadError("head 'logistic' tells classes apart: it needs a way of at least 2")

    def comparable(self, features: Features) -> Tensor:
        """Computes one vector per clip, its readouts of length one where they are normalised."""
        x = super().comparable(features)
        return scale_readouts(x, self.vector_sizes) if self.options.normalize else x

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Fits the classifier; its logits have no gradient.

        Raises:
            HeadError: when the fit does not converge.
        """
        x = self.comparable(support)
        # of several readouts the product of two vectors is the weighted sum of their cosines
        weights = self.episode_weights(x, labels) if self.options.normalize else None
        roots = None
        if weights is not None:
            sizes = torch.tensor(self.vector_sizes, device=x.device)
            roots = weights.sqrt().repeat_interleave(sizes, dim=1).unsqueeze(1)
            x = x * roots
        arrays = (t.detach().cpu().numpy() for t in (x.double(), labels))
        fitted = [self._fit_episode(*episode) for episode in zip(*arrays, strict=True)]
        rows, bias = (torch.from_numpy(np.stack(part)) for part in zip(*fitted, strict=True))

        def _score(query: Features) -> Tensor:
            q = self.comparable(query)
            q = q if roots is None else q * roots
            # runtimes of exported models are made for float32
            exact = torch.float32 if torch.compiler.is_exporting() else torch.float64
            logits = bias.to(exact).unsqueeze(1) + q.detach().cpu().to(exact) @ rows.to(exact).mT
            return logits.to(query.clip.device, torch.float32)

        return _score

    def _fit_episode(self, x: Array, y: NDArray[np.int64]) -> LinearWeights:
        """Fits the classifier to x (S, D) of classes y (S,)."""
        # The weights of the optimum are sums of the support vectors, so that S coordinates say all
        # that D do: the same classifier, and many times faster.
        _, _, basis = np.linalg.svd(x, full_matrices=False)
        x = x @ basis.T
        c = self.options.c
        rows, bias = _fit(x, y, choose_c(x, y) if c == "loo" else c)
        return rows @ basis, bias


def choose_c(x: Array, y: NDArray[np.int64]) -> float:
    """Chooses C by leave-one-out: every clip is scored by classifiers fitted without it.

    Args:
        x: vectors of the support clips, (S, D).
        y: class of each, (S,).

    Returns:
        The smallest C of `C_GRID` with the least cross-entropy summed over the clips; `DEFAULT_C`
        where a class has one clip only.

    Raises:
        HeadError: when a fit does not converge.
    """
    if np.unique(y, return_counts=True)[1].min() < 2:
        return DEFAULT_C
    losses = [sum(_leave_one_out_loss(x, y, i, c) for i in range(len(y))) for c in C_GRID]
    return C_GRID[int(np.argmin(losses))]


def _leave_one_out_loss(x: Array, y: NDArray[np.int64], i: int, c: float) -> float:
    """Cross-entropy of clip i under a classifier fitted to all remaining clips."""
    training_rows = np.arange(len(y)) != i
    logits = _logits(_fit(x[training_rows], y[training_rows], c), x[i : i + 1])[0]
    return float(np.logaddexp.reduce(logits) - logits[y[i]])


def _fit(x: Array, y: NDArray[np.int64], c: float) -> LinearWeights:
    """Minimises over W and b the cross-entropy of x W' + b, summed, plus |W|^2 / (2 c)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # for two classes scikit-learn penalises the difference w of the two rows, -w / 2 and w / 2:
    # |w|^2 / (2 C) is |W|^2 / (2 c) where C is 2 c
    is_binary = len(np.unique(y)) == 2
    # of the solvers that are multinomial in every version this one comes closest to the optimum
    model: Any = LogisticRegression(
        C=2 * c if is_binary else c, solver="newton-cg", tol=_TOLERANCE, max_iter=_MAX_ITERATIONS
    )
    with warnings.catch_warnings():
        # at the optimum no step lowers the loss any more; whether it is one is measured below
        warnings.filterwarnings("ignore", message="(?i)(the )?line search")
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(x, y)
        except ConvergenceWarning as error:
            raise _convergence_error(c, str(error)) from error
    weight, bias = model.coef_, model.intercept_
    if is_binary:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    gradient = _largest_gradient(x, y, (weight, bias), c)
    if not gradient <= _GRADIENT_TOLERANCE:
        raise _convergence_error(
            c, f"the gradient is {gradient:.1e}, more than {_GRADIENT_TOLERANCE:g}"
        )
    return weight, bias


def _largest_gradient(x: Array, y: NDArray[np.int64], fitted: LinearWeights, c: float) -> float:
    """Largest derivative of the loss by a weight or bias, per clip and unit of the vectors."""
    logits = _logits(fitted, x)
    residuals = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    residuals[np.arange(len(y)), y] -= 1
    vector_scale = max(1.0, float(np.abs(x).max()))
    weight_gradient = np.abs(residuals.T @ x + fitted[0] / c).max() / vector_scale
    return float(max(weight_gradient, np.abs(residuals.sum(0)).max())) / len(y)


def _convergence_error(c: float, reason: str) -> HeadError:
    return HeadError(
        f"head 'logistic' with c={c:g} does not converge: {reason}. Use normalize=true, or a "
        "smaller c"
    )


def _logits(fitted: LinearWeights, q: Array) -> Array:
    """Logits of a softmax over all classes, (Q, way)."""
    weight, bias = fitted
    return q @ weight.T + bias
