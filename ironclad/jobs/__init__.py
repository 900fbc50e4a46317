"""The job: states, transitions, leases, dispatch, reaping, retry, replay."""
