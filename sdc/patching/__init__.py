"""Upstreams: clone at a pin, patch, take the patch out, prove what is there; forks; new patches. One file runs git.

Imports: ground, adapters.
Read: clones, apply, git; fetching, causes, remedies, answers; waiting, leash, filling; then additive, shipped, proof;
fork, carrying, anchors, by_hand, other_files, syntax; download_of_pin, vendor and clash; trees and closure; authoring,
with scaffold, arguments, loops, dependencies and drafts; newer.
"""
