"""Budget matching: the samples that each model gets for one budget.

Pure functions, independent of tables and engines.

A budget is stated as samples per problem of one reference model. Another model gets as many samples as the same
amount of the matched quantity buys. S samples of one problem cost

    fixed + S · each          in FLOPs, currency, seconds, or samples (match: number)

* `flops`: a token costs 2·P FLOPs (Kaplan et al. 2020, arXiv 2001.08361), where P is the number of parameters that a
  token passes through (in a mixture of experts, the active ones). The paper counts generated tokens only. With
  `count_prefill` the prompt counts too, once per problem, because its samples share it.
* `price`: tokens at the price of their kind (input, cached input, output), less the discount of a batch API.
* `gpu_seconds`: generated tokens divided by the tokens per second on the hardware in question.
* `number`: equal numbers of samples.

The nominal rule assumes equal tokens per solution and ignores prompts, as the paper does (Bansal et al. 2024, arXiv
2408.16737, section 3): S_m = S_ref · P_ref / P_m. The measured rule uses each model's own mean tokens.

Numbers of samples are rounded to the nearest whole number, at least 1: 27.2e9 / 9.24e9 = 2.94 gives 3 for 1 and 29
for 10. The plan holds the unrounded number and the mismatch with the budget.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl


@dataclass(frozen=True)
class Prices:
    """Prices in currency per million tokens, after discounts.

    `cached` is the price of a cached input token; None means `input`.
    """

    input: float
    output: float
    cached: float | None = None

    def of(self, prompt: Any, completion: Any, cached: Any = 0.0) -> Any:
        """Return the cost of requests.

        Parameters
        ----------
        prompt, completion, cached : float, np.ndarray or pl.Expr
            Numbers of input tokens, of generated tokens, and of those input tokens that came from a cache.

        Returns
        -------
        float, np.ndarray or pl.Expr
            Currency.

        Examples
        --------
        >>> round(Prices(input=2.0, output=10.0, cached=0.5).of(prompt=1e6, completion=2e5, cached=4e5), 2)
        3.4
        """
        dear = prompt - cached
        cheap = cached * (self.input if self.cached is None else self.cached)
        return (dear * self.input + cheap + completion * self.output) / 1e6


@dataclass(frozen=True)
class Usage:
    """Mean tokens of one solution: generated tokens, prompt tokens, and the prompt tokens that came from a cache."""

    completion: float
    prompt: float = 0.0
    cached: float = 0.0


NOMINAL = Usage(completion=1.0)
"""The paper's rule: all solutions have the same length, whatever it is, and prompts do not count."""


@dataclass(frozen=True)
class Cost:
    """The cost of S samples of one problem in the matched quantity: fixed + S · each."""

    each: float
    fixed: float = 0.0

    def of(self, samples: float) -> float:
        """Return the cost of `samples` samples of one problem.

        Examples
        --------
        >>> Cost(each=2.0, fixed=1.0).of(3)
        7.0
        """
        return self.fixed + samples * self.each


@dataclass(frozen=True)
class Purchase:
    """Samples per problem of one model within one budget, and how closely they match the budget."""

    budget: str
    model: str
    samples: int
    exact_samples: float
    """Samples that an unrounded match would buy. Below 0 if the prompt alone costs more than the budget."""
    mismatch: float
    """Relative deviation from the budget: +0.02 spends 2 % more than the reference does."""


def flops_per_token(params: float) -> float:
    """Return the FLOPs of one token, 2·P, for `params` P; attention over the context is left out.

    References
    ----------
    Kaplan et al. 2020, arXiv 2001.08361.

    Examples
    --------
    >>> flops_per_token(9.24e9)
    18480000000.0
    """
    return 2.0 * params


class MatchRule(ABC):
    """A rule that `match:` can name: the cost of a solution, the amount that a sample took, and what the rule needs.

    Subclasses implement `cost` and `spent` and override the attributes that differ. Rules have no state. A rule is
    found by its name in `RULES`.

    Examples
    --------
    >>> class Tokens(MatchRule):  # equal numbers of generated tokens
    ...     def cost(self, usage, model, count_prefill):
    ...         return Cost(usage.completion)
    ...
    ...     def spent(self):
    ...         return pl.col("completion_tokens").cast(pl.Float64)
    >>> Tokens().cost(Usage(completion=50), Stated(), count_prefill=False)
    Cost(each=50, fixed=0.0)
    """

    needs: str = ""
    """The key that the rule requires of every model: "params", "price", "tokens_per_second", or "" for none."""
    needed: str = ""
    """A description of the requirement for error messages."""
    by_length = True
    """Whether longer solutions cost more."""
    prompts: Literal["never", "count_prefill", "always"] = "never"
    """When the tokens of a prompt cost something."""

    @abstractmethod
    def cost(self, usage: Usage, model: Stated, count_prefill: bool) -> Cost:
        """Return the cost of the samples of one problem, in the matched quantity.

        Parameters
        ----------
        usage : Usage
            Mean tokens of one solution, or `NOMINAL`.
        model : Stated
            The facts of the model. The one that `needs` names is present and above 0.
        count_prefill : bool
            Whether the study counts prompts. Only a rule with prompts = "count_prefill" has to respect it.

        Returns
        -------
        Cost
            `each` must be above 0.
        """

    @abstractmethod
    def spent(self) -> pl.Expr:
        """Return an expression for the amount that a sample took, in the matched quantity.

        The expression may use the columns of a table of samples (such as flops, cost, completion_tokens) and
        `tokens_per_second`, that of the sample's model. It must be null if the amount is unknown.
        """


@dataclass(frozen=True)
class Stated:
    """The facts that a study states of a model; None where it states nothing."""

    params: float | None = None
    prices: Prices | None = None
    tokens_per_second: float | None = None


class _Flops(MatchRule):
    needs, needed = "params", "the number of parameters of every model"
    prompts = "count_prefill"

    def cost(self, usage: Usage, model: Stated, count_prefill: bool) -> Cost:
        token = flops_per_token(model.params or 0)
        return Cost(usage.completion * token, usage.prompt * token if count_prefill else 0.0)

    def spent(self) -> pl.Expr:
        return pl.col("flops")


class _Price(MatchRule):
    needs, needed = "price", "the output price of every model"
    prompts = "always"

    def cost(self, usage: Usage, model: Stated, count_prefill: bool) -> Cost:
        assert model.prices is not None
        return Cost(model.prices.of(usage.prompt, usage.completion, usage.cached))

    def spent(self) -> pl.Expr:
        return pl.col("cost")


class _GpuSeconds(MatchRule):
    needs = "tokens_per_second"
    needed = "the generated tokens per second of every model, or a pilot: that measures them"

    def cost(self, usage: Usage, model: Stated, count_prefill: bool) -> Cost:
        return Cost(usage.completion / (model.tokens_per_second or 0))

    def spent(self) -> pl.Expr:
        return pl.col("completion_tokens") / pl.col("tokens_per_second")


class _Number(MatchRule):
    by_length = False

    def cost(self, usage: Usage, model: Stated, count_prefill: bool) -> Cost:
        return Cost(1.0)

    def spent(self) -> pl.Expr:
        return pl.col("sample_index").is_not_null().cast(pl.Float64)


RULES: dict[str, MatchRule] = {"flops": _Flops(), "price": _Price(), "gpu_seconds": _GpuSeconds(), "number": _Number()}
"""The rules, by their name in `match:`. To add one, write a `MatchRule` and add its entry here."""


def solution_cost(
    match: str,
    usage: Usage = NOMINAL,
    *,
    params: float | None = None,
    prices: Prices | None = None,
    tokens_per_second: float | None = None,
    count_prefill: bool = False,
) -> Cost:
    """Return the cost of a model's solutions in the matched quantity: FLOPs, currency, seconds, or samples.

    Parameters
    ----------
    match : str
        A key of `RULES`.
    usage : Usage, default NOMINAL
        Mean tokens of one solution. The default is the paper's rule, with equal tokens for all models.
    params : float, optional
        Number of parameters that a token passes through.
    prices : Prices, optional
        Currency per million tokens.
    tokens_per_second : float, optional
        Generated tokens per second on the hardware in question.
    count_prefill : bool, default False
        Whether the FLOPs of the prompt count, once per problem.

    Returns
    -------
    Cost
        The cost of the samples of one problem.

    Raises
    ------
    ValueError
        The model does not state what the quantity needs.
    KeyError
        `match` is not a key of `RULES`.

    Examples
    --------
    >>> solution_cost("flops", Usage(completion=50, prompt=100), params=1000, count_prefill=True)
    Cost(each=100000.0, fixed=200000.0)
    """
    rule = RULES[match]
    given = {"params": params, "price": prices.output if prices else None, "tokens_per_second": tokens_per_second}
    if rule.needs and not (given[rule.needs] or 0) > 0:
        key = "price.output" if rule.needs == "price" else rule.needs
        raise ValueError(f"match: {match} needs {key} above 0 of every model")
    return rule.cost(usage, Stated(params, prices, tokens_per_second), count_prefill)


def match_budgets(budgets: Mapping[str, Mapping[str, int]], costs: Mapping[str, Cost]) -> list[Purchase]:
    """Return the samples per problem for every budget and model.

    Parameters
    ----------
    budgets : mapping of str to mapping of str to int
        {budget: {model: samples per problem}}. The first model of a budget is its reference. A model that the budget
        names keeps the number stated there.
    costs : mapping of str to Cost
        {model: cost of its solutions}, for example from `solution_cost`.

    Returns
    -------
    list of Purchase
        One entry per budget and model, in the order of the arguments; at least one sample each.

    References
    ----------
    Bansal et al. 2024, arXiv 2408.16737, section 3.

    Examples
    --------
    >>> costs = {"wc": solution_cost("flops", params=9.24e9), "se": solution_cost("flops", params=27.2e9)}
    >>> plan = match_budgets({"low": {"se": 1}, "high": {"se": 10}}, costs)
    >>> [(one.budget, one.model, one.samples, round(one.exact_samples, 2)) for one in plan]
    [('low', 'wc', 3, 2.94), ('low', 'se', 1, 1.0), ('high', 'wc', 29, 29.44), ('high', 'se', 10, 10.0)]
    """
    plan = []
    for budget, stated in budgets.items():
        reference = next(iter(stated))
        spend = costs[reference].of(stated[reference])
        for model, cost in costs.items():
            exact = (spend - cost.fixed) / cost.each
            samples = stated.get(model, max(1, round(exact)))
            plan.append(Purchase(budget, model, samples, exact, cost.of(samples) / spend - 1))
    return plan
