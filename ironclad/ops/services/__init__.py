"""The services that `ironclad run NAME` runs: thin adapters between a loop of ours and the runtime around it."""
