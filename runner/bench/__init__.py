"""The benchmark: a spec, the cells that it asks for, and the engine that carries them out."""
