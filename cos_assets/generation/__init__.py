"""Model calls. `generate` reads the ledger, requests the missing completions from an engine, and records them.

    generate       the entry point: the completions of prompts, bought where the ledger lacks them
    types          models, sampling parameters, requests, completions, and the protocol of engines
    model          from a model id to its engine, revision, fingerprint and number of parameters
    engines        one module or package per engine, each with its descriptor
    ledger, parts  every completion ever bought, and the Parquet files that hold them
    spend          the cost of completions, a study's spend so far, and the cap on it
    prompts        prompts and conversations in a tokenizer's chat template, with its place for reasoning
    tokens         text to tokens and back, the same in sampling, training and evaluation
    compute        threads and number format on the processor
    loaded         the engine that this process keeps between purchases
    completions    seeds of samples and post-processing, shared by engines
    replies        texts and finish reasons in replies of servers and files
    adapters       LoRA adapters as models
    weights        networks of models, and strict loading of their weights

To add an engine, write a module with a descriptor and register it: see `engines` and docs/extending.md. To add a
column to the ledger, edit `storage.schemas` and the function in `generate` that converts a completion to a row.
"""
