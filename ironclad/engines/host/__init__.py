"""The engine host: the process that runs an engine, in the engine's own environment.

Standard library and NumPy only, and nothing of the rest of Ironclad: it is started in environments that do not have
it. `api` is what engine authors implement, `protocol` is what both ends of the pipe speak.
"""
