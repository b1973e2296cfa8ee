"""The upstreams as data: one small file a method, a literal registry, recipes."""
