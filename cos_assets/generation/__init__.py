"""Model calls. `generate` reads the ledger, requests the missing completions from an engine, and records them.

To add an engine: see `engines`.
"""
