"""Every model call. `generate` looks in the ledger, asks an engine for what is missing, and books it.

To add an engine: see `engines`.
"""
