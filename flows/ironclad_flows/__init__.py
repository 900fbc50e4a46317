"""Prefect as the executor: flow, warm worker, deployments."""
