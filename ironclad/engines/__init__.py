"""Separation engines: contract, registry, host process and the built-in engine."""
