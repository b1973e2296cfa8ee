"""The upstreams as data: one small file a method, a literal registry, recipes, published accuracies.

Imports: nothing of ours.
Read: base, registry, dm; then vico and trajectories, which methods of one repository or kind share; recipes, published.
"""
