"""Engine transformers: any causal language model of the hub, in this process.

The docstring of `engine` explains behavior and options.

    engine      from requests to completions: which samples are decoded together, when they end
    decoding    the samples that are decoded together, token by token
    drawing     the next token from the scores: penalties, temperature, min-p, top-k, top-p
    caches      key-value caches whose rows are selected, joined, and extended in place
    attention   faster attention on the processor
"""

from cos_assets.generation.engines.transformers.engine import ENGINE, TransformersEngine

__all__ = ["ENGINE", "TransformersEngine"]
